import { createHash } from 'node:crypto';
import type { IncomingMessage } from 'node:http';
import pg from 'pg';
import { beforeEach, describe, expect, test, vi } from 'vitest';
import { UNVERIFIED_A_MINUTE } from '../../../src/api/routes/callbacks.ts';
import { minuteOf, recordUnverified, unverifiedCallback } from '../../../src/ledger/unverified-callbacks.ts';
import { eventually, unlessOutOfTime } from '../../support/progress.ts';
import { queryOnce } from '../../support/stack.ts';
import { newKey, pay, setUp, simulatorCallback } from '../support.ts';

// Tests a flood of forged callbacks. Each of them gets 401. The flood uses little storage, causes few queries, and
// delays no other request.

/** The test's clock. It starts at a full minute, and tests advance it. */
let clock = 0;
const { database, api, key } = await setUp({ now: () => new Date(clock) });
const accountId = (
  await api.db.channelAccount.findFirstOrThrow({ where: { channel: 'simulator', ownsChannelAddress: true } })
).id;
beforeEach(async () => {
  // The clock moves to a new minute for each test, because the counts in memory are per minute.
  clock = Math.floor(Math.max(Date.now(), clock + 60_000) / 60_000) * 60_000;
  api.workflows.calls.length = 0;
  await api.unverified.flush();
  await api.db.unverifiedCallback.deleteMany();
  await api.db.unverifiedCallbackCount.deleteMany();
});

/** The longest time that a transaction waits for its slot or for a connection. */
const SLOT_WAIT_MS = 3_000;
/** The longest time that one SQL statement may take. */
const STATEMENT_MS = 5_000;
const send = (callback: { raw: string; headers: Record<string, string> }) =>
  api.call('/callbacks/simulator', { ...callback, method: 'POST' });
const forged = (id: string, padding = '') => {
  const { raw, headers } = simulatorCallback(id);
  return { raw: `${raw}${padding}`, headers: { ...headers, 'webhook-signature': 'v1,AAAA' } };
};
const counts = async () => {
  await api.unverified.flush();
  return await api.db.unverifiedCallbackCount.findMany({ orderBy: { minute: 'asc' } });
};
const stored = async () => {
  await api.unverified.flush();
  return await api.db.unverifiedCallback.findMany();
};

test('nodrop stores the first 4 KiB of a forged callback, a hash of its body, its sender and the reason for the refusal', async () => {
  const callback = forged('pay_1', ' '.repeat(5_000));
  expect((await send(callback)).status).toBe(401);
  const [row, ...more] = await stored();
  expect(more).toEqual([]);
  expect(row).toMatchObject({
    channelAccountId: accountId,
    address: '127.0.0.1',
    bodyHash: createHash('sha256').update(callback.raw).digest('hex'),
    receivedAt: new Date(clock),
  });
  expect(row?.reason).not.toBe('');
  expect(Buffer.from(row?.bodyHead ?? []).toString()).toBe(callback.raw.slice(0, 4096));
  expect((await send({ raw: '', headers: {} })).status).toBe(401);
  expect(await stored()).toHaveLength(2);
});

test('all forged callbacks are counted, a hundred per minute are stored, and a verified callback is still forwarded', async () => {
  const { id } = await pay(api, key);
  // Sends the requests in groups. Each request of a group can get a database connection without waiting.
  const flood = async (size: number) => {
    const answers: Awaited<ReturnType<typeof send>>[] = [];
    while (answers.length < size) {
      const wave = Array.from({ length: Math.min(10, size - answers.length) }, () => send(forged(id)));
      answers.push(...(await Promise.all(wave)));
    }
    return answers;
  };
  const statuses = (await flood(130)).map(({ status }) => status);
  expect(statuses.filter((status) => status === 401)).toHaveLength(UNVERIFIED_A_MINUTE);
  expect(statuses.filter((status) => status === 429)).toHaveLength(130 - UNVERIFIED_A_MINUTE);
  expect(await stored()).toHaveLength(100);
  expect(await counts()).toMatchObject([{ address: '127.0.0.1', minute: new Date(clock), count: 130 }]);
  expect(api.workflows.named('hint')).toHaveLength(1);

  const [, verified] = await Promise.all([flood(60), send(simulatorCallback(id))]);
  expect(verified.status).toBe(200);
  expect(api.workflows.named('deliverCallback')).toHaveLength(1);

  clock += 60_000;
  await flood(5);
  expect(await stored()).toHaveLength(105);
  expect((await counts()).map(({ count }) => count)).toEqual([190, 5]);
});

test('the number of verified callbacks is never limited, even if many forged callbacks come from the same address', async () => {
  const { id } = await pay(api, key);
  const strangers = Array.from({ length: 70 }, () => api.call('/v1/orders', { key: 'sk_wrong' }));
  await Promise.all([...strangers, ...Array.from({ length: 110 }, () => send(forged(id)))]);
  // All callbacks wait for the lock of one order's row. nodrop does not acknowledge a callback that times out, so the
  // channel sends it again.
  for (let sent = 0; sent < 300; sent += 10) {
    const answers = await Promise.all(
      Array.from({ length: 10 }, () => {
        const callback = simulatorCallback(id);
        return unlessOutOfTime(
          SLOT_WAIT_MS,
          () => send(callback),
          ({ status }) => status === 503,
        );
      }),
    );
    expect(new Set(answers.map(({ status }) => status))).toEqual(new Set([200]));
  }
  expect(await api.db.callback.count({ where: { paymentId: id } })).toBe(300);
});

test('at most a thousand unverified callbacks per minute are stored in total, from all addresses and by all processes', async () => {
  const now = new Date(clock);
  const callback = unverifiedCallback(Buffer.from('{}'), 'forged', now);
  const sender = (address: string, count: number, of = accountId) => ({
    accountId: of,
    address,
    minute: minuteOf(now),
    count,
    callbacks: Array.from({ length: Math.min(count, 100) }, () => callback),
  });
  const nine = Array.from({ length: 9 }, (_, n) => sender(`192.0.2.${n + 1}`, 101));
  expect(await recordUnverified(api.db, nine)).toBe(900);
  expect(await recordUnverified(api.db, [sender('192.0.2.1', 5)])).toBe(0);
  expect(await recordUnverified(api.db, [sender('192.0.2.10', 60)])).toBe(60);
  expect(await recordUnverified(api.db, [sender('192.0.2.10', 39)])).toBe(39);
  expect(await recordUnverified(api.db, [sender('192.0.2.11', 6), sender('192.0.2.12', 4)])).toBe(1);
  // The limit of another account is separate.
  const other = await newKey(api.db);
  const account = await api.db.channelAccount.findFirstOrThrow({ where: { merchantId: other.merchantId } });
  expect(await recordUnverified(api.db, [sender('192.0.2.11', 1, account.id)])).toBe(1);
  expect(Object.fromEntries((await counts()).map(({ address, count }) => [address, count]))).toMatchObject({
    '192.0.2.1': 106,
    '192.0.2.10': 99,
    '192.0.2.12': 4,
  });
});

test('if more than a thousand addresses send callbacks in one second, all further addresses are counted as one sender', async () => {
  for (let n = 0; n < 1_010; n += 1) {
    api.unverified.add(accountId, `192.0.2.${n}`, Buffer.from('{}'), 'forged', new Date(clock));
  }
  const rows = await counts();
  expect(rows).toHaveLength(1_001);
  expect(rows.find(({ address }) => address === 'others')?.count).toBe(10);
  expect(await stored()).toHaveLength(1_000);
});

test('all addresses of one IPv6 /64 network are counted as one sender', async () => {
  let address = '';
  const comeFrom = ({ socket }: IncomingMessage) =>
    void Object.defineProperty(socket, 'remoteAddress', { value: address, configurable: true });
  api.server.prependListener('request', comeFrom);
  try {
    for (const from of ['2001:db8:1:200::1', '2001:db8:1:200:a:b:c:d', '2001:db8:1:201::1', '192.0.2.7']) {
      address = from;
      expect((await send(forged('pay_1'))).status).toBe(401);
    }
  } finally {
    api.server.off('request', comeFrom);
  }
  const senders = (await counts()).map(({ address, count }) => [address, count]);
  expect(Object.fromEntries(senders)).toEqual({
    '2001:db8:1:200::/64': 2,
    '2001:db8:1:201::/64': 1,
    '192.0.2.7': 1,
  });
});

test('while one batch of counts is written, all further counts are collected in one next batch of limited size', async () => {
  const queries = vi.spyOn(pg.Client.prototype, 'query');
  try {
    const flushes = [];
    for (let minute = 0; minute < 5; minute += 1) {
      const at = new Date(clock + minute * 60_000);
      for (let n = 0; n < 900; n += 1) {
        api.unverified.add(accountId, `192.0.${minute}.${n}`, Buffer.from('{}'), 'forged', at);
      }
      flushes.push(api.unverified.flush());
    }
    await Promise.all(flushes);
    const written = queries.mock.calls.filter(([query]) =>
      (query as { text?: string }).text?.includes('INSERT INTO unverified_callback_counts'),
    );
    expect(written).toHaveLength(2);
  } finally {
    queries.mockRestore();
  }
  const rows = await counts();
  // The 900 senders of the first batch and a thousand senders of the second batch each have a row of their own. One
  // more row counts all other senders together.
  expect(rows).toHaveLength(900 + 1_001);
  expect(rows.find(({ address }) => address === 'others')?.count).toBe(4 * 900 - 1_000);
  expect(await stored()).toHaveLength(900 + 1_000);
});

test('the rows of counts are locked in the order of their keys, so that two processes never deadlock', async () => {
  const minute = minuteOf(new Date(clock));
  const sender = (address: string) => ({ accountId, address, minute, count: 1, callbacks: [] });
  const [first, last] = [sender('192.0.2.1'), sender('192.0.2.2')];
  await recordUnverified(api.db, [first, last]);
  const holder = new pg.Client({ connectionString: database.url });
  await holder.connect();
  const lock = async (address: string) => {
    const text = 'select from unverified_callback_counts where address = $1 for update skip locked';
    return (await holder.query(text, [address])).rowCount === 1;
  };
  const isOneWaiting = async () => {
    // This query does not run on `holder`, because pg_stat_activity does not change inside the transaction of
    // `holder`.
    const waiting = await queryOnce(
      database.url,
      "select from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'",
    );
    return waiting.length === 1;
  };
  try {
    const { isFirstFree } = await unlessOutOfTime(
      STATEMENT_MS,
      async () => {
        await holder.query('begin');
        expect(await lock(last.address)).toBe(true);
        let isOver = false;
        const recorded = recordUnverified(api.db, [last, first])
          .then(
            () => true,
            () => false,
          )
          .finally(() => {
            isOver = true;
          });
        await eventually(async () => isOver || (await isOneWaiting()));
        const isFirstFree = await lock(first.address);
        await holder.query('rollback');
        return { isRecorded: await recorded, isFirstFree };
      },
      ({ isRecorded }) => !isRecorded,
    );
    expect(isFirstFree).toBe(false);
  } finally {
    await holder.end();
  }
  expect((await counts()).map(({ count }) => count)).toEqual([2, 2]);
});

describe('the payment that a forged callback names', () => {
  test('is queried at most once in 10 s, and at most twenty times in total', async () => {
    const { id } = await pay(api, key);
    for (let i = 0; i < 25; i++) {
      clock += 10_000;
      await send(forged(id));
      await send(forged(id));
    }
    expect(api.workflows.named('hint')).toHaveLength(20);
    const notes = await api.db.timelineEntry.count({ where: { paymentId: id, kind: 'callback' } });
    expect(notes).toBe(20);
    // This limit on forged callbacks does not apply to the payer's hints.
    expect((await api.call(`/v1/payments/${id}/hint`, { key, method: 'POST' })).status).toBe(202);
    expect(api.workflows.named('hint')).toHaveLength(21);
  });

  test('is queried once if many forged callbacks arrive at the same time', async () => {
    const { id } = await pay(api, key);
    await api.db.payment.update({ where: { id }, data: { unverifiedQueries: 19 } });
    await Promise.all(Array.from({ length: 10 }, () => send(forged(id))));
    clock += 10_000;
    await send(forged(id));
    expect(api.workflows.named('hint')).toHaveLength(1);
    expect((await api.db.payment.findUniqueOrThrow({ where: { id } })).unverifiedQueries).toBe(20);
  });
});
