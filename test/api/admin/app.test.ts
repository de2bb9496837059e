import { once } from 'node:events';
import { rmSync } from 'node:fs';
import { type IncomingMessage, request } from 'node:http';
import { text } from 'node:stream/consumers';
import { afterAll, describe, expect, test } from 'vitest';
import { createAdminApp } from '../../../src/api/admin/app.ts';
import { createDetails, type Details, type DetailsDeps } from '../../../src/api/admin/details.ts';
import type { ApiDeps } from '../../../src/api/api-deps.ts';
import { listen, stopListening } from '../../../src/api/http/listen.ts';
import { createMetrics } from '../../../src/api/metrics.ts';
import { Readiness } from '../../../src/api/readiness.ts';
import { problem } from '../../../src/api/schemas/common.ts';
import { loadConfig } from '../../../src/config.ts';
import { newDeliveryId, newEventId } from '../../../src/domain/ids.ts';
import { countAttention, countCallbacks, countDeliveries } from '../../../src/ledger/backlog.ts';
import { storeCallback } from '../../../src/ledger/callbacks.ts';
import { createLedgerClient } from '../../../src/ledger/client.ts';
import { raiseAttention } from '../../../src/ledger/payments.ts';
import type { SweepStatus } from '../../../src/temporal/sweep-status.ts';
import { ofTrade } from '../../support/callback.ts';
import { temporaryHome } from '../../support/stack.ts';
import { type Answer, newKey, pay, setUp } from '../support.ts';

// Tests what the admin listener shows to operators. The listener requires no key and must not show a secret.

const home = temporaryHome();
/** Every setting that is or contains a secret. */
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

const NO_SWEEP: SweepStatus = { state: 'missing', note: null, lastCompletedAt: null };

/** Sends a request to a new admin listener. */
async function ask(
  path: string,
  change: Partial<DetailsDeps & Pick<ApiDeps, 'isTemporalReachable'>> = {},
  { host = '127.0.0.1', as = 'localhost' } = {},
) {
  const { db, isTemporalReachable } = { ...api.deps, ...change };
  const now = () => new Date();
  const deps = {
    ...{
      config,
      db,
      channels: api.deps.channels,
      now,
      readiness: new Readiness({ db, isTemporalReachable }, now),
    },
    countLost: async () => ({ payment: 2, refund: 1 }),
    readSweepStatus: async () => NO_SWEEP,
    ...change,
  };
  const app = createAdminApp(api.deps.metrics, createDetails(deps), 'https://pay.example', host);
  const { server, port } = await listen(app, '127.0.0.1', 0, 'PORT', 'https://pay.example');
  try {
    return await callAs(as, `http://127.0.0.1:${port}${path}`);
  } finally {
    await stopListening(server, 0);
  }
}

/** Sends a request with this `Host` header. With fetch a caller cannot choose this header. */
async function callAs(host: string, url: string): Promise<Answer> {
  const sent = request(url, { headers: { host } }).end();
  const [response] = (await once(sent, 'response')) as [IncomingMessage];
  const content = await text(response);
  return {
    status: response.statusCode ?? 0,
    headers: new Headers(response.headers as Record<string, string>),
    text: content,
    json: /json/.test(response.headers['content-type'] ?? '') ? JSON.parse(content) : undefined,
  };
}

describe('the host names that the admin listener accepts', () => {
  const statuses = async (as: string, host: string) =>
    (
      await Promise.all(
        ['/metrics', '/details', '/healthz', '/nothing'].map((path) => ask(path, {}, { host, as })),
      )
    ).map(({ status }) => status);
  const answered = [200, 200, 200, 404];

  test('on loopback the admin listener accepts only loopback host names, because the DNS name of a web page can point to loopback', async () => {
    for (const as of ['localhost', 'localhost:3001', '127.0.0.1:3001', '127.0.0.1', '[::1]:3001'])
      expect([as, await statuses(as, '127.0.0.1')]).toEqual([as, answered]);
    for (const as of ['evil.example', 'evil.example:3001', '127.0.0.1.evil.example', '10.0.0.7'])
      expect([as, await statuses(as, '127.0.0.1')]).toEqual([as, [421, 421, 421, 421]]);
    const refused = await ask('/details', {}, { as: 'evil.example' });
    expect(problem.strict().parse(refused.json).code).toBe('misdirected_request');
  });

  test('on an address other than loopback the admin listener accepts every host name', async () => {
    expect(await statuses('metrics.internal:3001', '0.0.0.0')).toEqual(answered);
  });
});

test('an unknown path is answered with a problem document', async () => {
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

const SOURCES = {
  callsPerSecond: 100,
  callsPerSecondSource: 'nodrop itself',
  queryScheduleSource: 'NODROP_QUERY_SCHEDULE',
};

describe('/details', () => {
  test('shows a fixed list of settings without any secret', async () => {
    const answer = await ask('/details');
    expect(answer.headers.get('cache-control')).toBe('no-store');
    expect(answer.json).toEqual({
      ...{ version: expect.stringMatching(/^\d+\.\d+\.\d+/), mode: 'test', database: 'ok', temporal: 'ok' },
      ...{ attention: {}, callbacks: { undelivered: null, unmatched: null } },
      deliveries: { pending: null, overdue: null },
      sweep: { state: 'missing', note: null, lastCompletedAt: null, lastCompletedAgeSeconds: null },
      lostRows: { payment: 2, refund: 1 },
      config: {
        publicUrl: 'https://pay.example/shop',
        ...{ api: '127.0.0.1:3000', admin: '127.0.0.1:3001' },
        ...{ embeddedDatabase: false, embeddedTemporal: true },
        ...{ temporalAddress: '127.0.0.1:7233', temporalNamespace: 'default' },
        paymentExpirySeconds: 1800,
        queryScheduleSeconds: { simulator: [10, 60], simulator2: [10, 60] },
        channels: { simulator: SOURCES, simulator2: SOURCES },
        logLevel: 'info',
      },
    });
    expect(answer.text).not.toContain('hidden');
    for (const secret of Object.values(SECRETS)) expect(answer.text).not.toContain(secret);
  });

  test('shows how many payments and callbacks wait for an operator, and the age of the oldest', async () => {
    const at = Date.now();
    const ago = (seconds: number) => new Date(at - seconds * 1000);
    const other = await newKey(api.db);
    for (const [age, as] of [
      [300, key],
      [500, other.key],
    ] as const) {
      const { id } = await pay(api, as);
      await raiseAttention(api.db, id, 'channel_unreachable', 'The channel is silent.', ago(age));
    }
    const { id } = await pay(api, key);
    await raiseAttention(api.db, id, 'create_unknown', 'The result is unknown.', ago(20));
    const { channelAccountId } = await api.db.payment.findUniqueOrThrow({ where: { id } });
    for (const [outTradeNo, age] of [
      [id, 40],
      ['nobody', 50],
      ['nobody', 70],
    ] as const) {
      const callback = ofTrade({
        notificationId: `n-${age}`,
        outTradeNo,
        answer: { state: 'unpaid' } as const,
      });
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

  test('shows the number of deliveries that order services have not answered, and the metrics show the same number', async () => {
    const at = Date.now();
    const ago = (seconds: number) => new Date(at - seconds * 1000);
    const { id: paymentId, merchantId } = await api.db.payment.findUniqueOrThrow({
      where: { id: (await pay(api, key)).id },
    });
    for (const [version, age] of [60, 599, 600, 9_000].entries()) {
      const event = { id: newEventId(), merchantId, paymentId, type: 'refund.failed', version: version + 1 };
      await api.db.event.create({ data: { ...event, data: {} } });
      const row = { id: newDeliveryId(), eventId: event.id, merchantId, paymentId, createdAt: ago(age) };
      await api.db.delivery.create({ data: row });
    }
    const { json } = await ask('/details', { now: () => new Date(at) });
    const waits = (count: number) => ({ ...{ count, more: false, oldestAgeSeconds: 9_000 } });
    expect((json as Details).deliveries).toMatchObject({ pending: waits(4), overdue: waits(2) });
    expect((await countDeliveries(api.db, new Date(at), 1)).pending).toMatchObject({ count: 1, more: true });

    const metrics = createMetrics();
    let isAway = false;
    metrics.watchDeliveries(async () => {
      if (isAway) throw new Error('away');
      return await countDeliveries(api.db, new Date(at));
    });
    const shown = async () =>
      (await metrics.registry.metrics())
        .split('\n')
        .filter((line) => line.startsWith('nodrop_deliveries_waiting'));
    expect(await shown()).toEqual([
      'nodrop_deliveries_waiting{state="pending"} 4',
      'nodrop_deliveries_waiting{state="overdue"} 2',
    ]);
    isAway = true;
    expect(await shown()).toEqual([]);
  });

  test('the details and the metrics show that the sweep is not running', async () => {
    const at = Date.now();
    const lastCompletedAt = new Date(at - 90_000);
    const paused: SweepStatus = { state: 'paused', note: 'until tomorrow', lastCompletedAt };
    const { json } = await ask('/details', {
      now: () => new Date(at),
      readSweepStatus: async () => paused,
    });
    expect((json as Details).sweep).toEqual({
      ...{ state: 'paused', note: 'until tomorrow' },
      ...{ lastCompletedAt: lastCompletedAt.toISOString(), lastCompletedAgeSeconds: 90 },
    });

    const metrics = createMetrics();
    let isAway = false;
    metrics.watchSweep(async () => {
      if (isAway) throw new Error('away');
      return paused;
    });
    const shown = async () =>
      (await metrics.registry.metrics()).split('\n').filter((line) => line.startsWith('nodrop_sweep'));
    const completed = 'nodrop_sweep_last_completed_timestamp_seconds';
    expect(await shown()).toEqual([
      'nodrop_sweep_state{state="active"} 0',
      'nodrop_sweep_state{state="paused"} 1',
      'nodrop_sweep_state{state="missing"} 0',
      'nodrop_sweep_state{state="overdue"} 0',
      'nodrop_sweep_state{state="failing"} 0',
      `${completed} ${lastCompletedAt.getTime() / 1000}`,
    ]);
    isAway = true;
    expect(await shown()).toEqual([`${completed} Nan`]);
  });

  test('the metric of lost rows counts workflows whose database row is missing, and is omitted if Temporal cannot be reached', async () => {
    const metrics = createMetrics();
    let isAway = false;
    metrics.watchLostRows(async () => {
      if (isAway) throw new Error('away');
      return { payment: 2, refund: 1 };
    });
    const shown = async () =>
      (await metrics.registry.metrics()).split('\n').filter((line) => line.startsWith('nodrop_rows_lost'));
    expect(await shown()).toEqual([
      'nodrop_rows_lost{workflow="payment"} 2',
      'nodrop_rows_lost{workflow="refund"} 1',
    ]);
    isAway = true;
    expect(await shown()).toEqual([]);
  });

  test('says that the database and Temporal are unreachable, and shows unknown values as null', async () => {
    const db = createLedgerClient('postgresql://nodrop@127.0.0.1:1/none');
    const countLost = async () => {
      throw new Error('away');
    };
    const answer = await ask('/details', {
      ...{ db, isTemporalReachable: async () => false, countLost },
      readSweepStatus: () => Promise.reject(new Error('away')),
    });
    expect(answer.status).toBe(200);
    expect(answer.json).toMatchObject({
      ...{
        database: 'unreachable',
        temporal: 'unreachable',
        attention: null,
        callbacks: null,
        deliveries: null,
        sweep: null,
        lostRows: null,
      },
      ...{ mode: 'test', version: expect.stringMatching(/^\d+\.\d+\.\d+/) },
    });
    await db.$disconnect();
  });
});
