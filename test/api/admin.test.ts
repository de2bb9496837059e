import { rmSync } from 'node:fs';
import { afterAll, describe, expect, test } from 'vitest';
import { createAdminApp } from '../../src/api/admin.ts';
import { createDetails, type Details } from '../../src/api/details.ts';
import { listen, stopListening } from '../../src/api/listen.ts';
import { problem } from '../../src/api/schemas/common.ts';
import { loadConfig } from '../../src/config.ts';
import { storeCallback } from '../../src/ledger/callbacks.ts';
import { createLedgerClient } from '../../src/ledger/client.ts';
import { countAttention, countCallbacks } from '../../src/ledger/details.ts';
import { raiseAttention } from '../../src/ledger/payments.ts';
import { temporaryHome } from '../support/stack.ts';
import { callUrl, newKey, pay, setUp } from './support.ts';

// The admin listener: what operators see without a key, and nothing that is secret.

const home = temporaryHome();
/** Every setting that is a secret, or carries one. */
const SECRETS = {
  NODROP_SECRET: 'hidden-nodrop-secret-of-32-characters',
  NODROP_SIMULATOR_SECRET: `whsec_${Buffer.alloc(24, 'hidden-simulator').toString('base64')}`,
  NODROP_SIMULATOR2_SECRET: `whsec_${Buffer.alloc(24, 'hidden-simulator2').toString('base64')}`,
  DATABASE_URL: 'postgresql://hidden-user:hidden-password@hidden-host:5432/hidden-name',
  NODROP_TEMPORAL_UI_URL: 'http://hidden-user:hidden-password@ui.example',
  NODROP_PUBLIC_URL: 'https://hidden-user:hidden-password@pay.example/shop',
};
const config = loadConfig({ ...SECRETS, NODROP_HOME: home, NODROP_QUERY_SCHEDULE: '10s,1m' });
const { api, key } = await setUp();
afterAll(async () => {
  rmSync(home, { recursive: true, force: true });
});

/** Asks an admin listener of its own. */
async function ask(path: string, change: Partial<Parameters<typeof createDetails>[0]> = {}) {
  const { db, channels, isTemporalReachable } = api.deps;
  const deps = { config, db, channels, isTemporalReachable, now: () => new Date(), ...change };
  const app = createAdminApp(api.deps.metrics, createDetails(deps), 'https://pay.example');
  const { server, port } = await listen(app, '127.0.0.1', 0, 'PORT', 'https://pay.example');
  try {
    return await callUrl(`http://127.0.0.1:${port}${path}`);
  } finally {
    await stopListening(server, 0);
  }
}

test('what is not there is said in a problem document', async () => {
  const answer = await ask('/nothing');
  expect([answer.status, answer.headers.get('content-type')]).toEqual([
    404,
    'application/problem+json; charset=utf-8',
  ]);
  expect(problem.strict().parse(answer.json)).toMatchObject({
    code: 'not_found',
    requestId: answer.headers.get('x-request-id'),
  });
});

describe('/details', () => {
  test('shows a fixed list of settings, and no secret', async () => {
    const answer = await ask('/details');
    expect(answer.headers.get('cache-control')).toBe('no-store');
    expect(answer.json).toEqual({
      ...{ version: expect.stringMatching(/^\d+\.\d+\.\d+/), mode: 'test', database: 'ok', temporal: 'ok' },
      ...{ attention: {}, callbacks: { undelivered: null, unmatched: null } },
      config: {
        publicUrl: 'https://pay.example/shop',
        ...{ api: '127.0.0.1:3000', admin: '127.0.0.1:3001' },
        ...{ embeddedDatabase: false, embeddedTemporal: true },
        ...{ temporalAddress: '127.0.0.1:7233', temporalNamespace: 'default' },
        paymentExpirySeconds: 1800,
        queryScheduleSeconds: { simulator: [10, 60], simulator2: [10, 60] },
        logLevel: 'info',
      },
    });
    expect(answer.text).not.toContain('hidden');
    for (const secret of Object.values(SECRETS)) expect(answer.text).not.toContain(secret);
  });

  test('counts what waits for somebody, of every merchant, with the age of the oldest', async () => {
    const at = Date.now();
    const ago = (seconds: number) => new Date(at - seconds * 1000);
    const other = await newKey(api.db);
    for (const [age, as] of [
      [300, key],
      [500, other.key],
    ] as const) {
      const { id } = await pay(api, as);
      await raiseAttention(api.db, id, 'channel_unreachable', 'It is silent.', ago(age));
    }
    const { id } = await pay(api, key);
    await raiseAttention(api.db, id, 'create_unknown', 'It does not say.', ago(20));
    const { channelAccountId } = await api.db.payment.findUniqueOrThrow({ where: { id } });
    for (const [outTradeNo, age] of [
      [id, 40],
      ['nobody', 50],
      ['nobody', 70],
    ] as const) {
      const callback = { notificationId: `n-${age}`, outTradeNo, answer: { state: 'unpaid' } as const };
      await storeCallback(api.db, channelAccountId, callback, Buffer.from('{}'), ago(age));
    }

    const { json } = await ask('/details', { now: () => new Date(at) });
    const waits = (count: number, age: number) => ({
      ...{ count, more: false, oldestSince: ago(age).toISOString(), oldestAgeSeconds: age },
    });
    expect((json as Details).attention).toEqual({
      channel_unreachable: waits(2, 500),
      create_unknown: waits(1, 20),
    });
    expect((json as Details).callbacks).toEqual({ undelivered: waits(1, 40), unmatched: waits(2, 70) });

    const most = await countAttention(api.db, 1);
    expect(most.get('channel_unreachable')).toEqual({ count: 1, more: true, oldest: ago(500) });
    expect(most.get('create_unknown')).toEqual({ count: 1, more: false, oldest: ago(20) });
    expect((await countCallbacks(api.db, 1)).unmatched).toMatchObject({ count: 1, more: true });
  });

  test('without database and Temporal it says so, and what is not known is null', async () => {
    const db = createLedgerClient('postgresql://nodrop@127.0.0.1:1/none');
    const answer = await ask('/details', { db, isTemporalReachable: async () => false });
    expect(answer.status).toBe(200);
    expect(answer.json).toMatchObject({
      ...{ database: 'unreachable', temporal: 'unreachable', attention: null, callbacks: null },
      ...{ mode: 'test', version: expect.stringMatching(/^\d+\.\d+\.\d+/) },
    });
    await db.$disconnect();
  });
});
