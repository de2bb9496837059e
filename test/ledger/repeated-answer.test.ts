import { MockActivityEnvironment } from '@temporalio/testing';
import pg from 'pg';
import { beforeAll, describe, expect, test, vi } from 'vitest';
import { channelActivities } from '../../src/activities/channel.ts';
import type { ChannelAdapter, ChannelAnswer } from '../../src/domain/channel.ts';
import { storeCallback } from '../../src/ledger/callbacks.ts';
import { ensureMerchant } from '../../src/ledger/merchants.ts';
import { insertPayment } from '../../src/ledger/new-payment.ts';
import { notificationsSent } from '../../src/ledger/notify.ts';
import {
  endPayment,
  raiseAttention,
  recordAnswer,
  recordCreated,
  recordSilence,
  settlePayment,
} from '../../src/ledger/payments.ts';
import { repeatAnswer } from '../../src/ledger/repeated-answer.ts';
import type { Payment } from '../../src/ledger/rows.ts';
import { ofTrade } from '../support/callback.ts';
import { useDatabase } from '../support/stack.ts';

/**
 * Tests answers of the channel that repeat the answer before them. Each causes one UPDATE, without a lock or a new row.
 * The ledger counts equal answers, and writes one timeline entry for all of them when a different answer comes.
 */

const { db, connect } = useDatabase();
const elsewhere = connect();
let merchantId: string;
let accountId: string;
const queries = vi.spyOn(pg.Client.prototype, 'query');

beforeAll(async () => {
  merchantId = (await ensureMerchant(db, 'shop', ['simulator'])).merchant.id;
  accountId = (await db.channelAccount.findFirstOrThrow({ where: { merchantId } })).id;
});

const BEGAN = Date.UTC(2026, 10, 27);
const at = (seconds: number) => new Date(BEGAN + seconds * 1000);
const UNPAID: ChannelAnswer = { state: 'unpaid' };
const PAID: ChannelAnswer = {
  state: 'paid',
  channelPaymentId: 'trx',
  amount: 1000,
  currency: 'CNY',
  paidAt: at(0).toISOString(),
};

let orders = 0;
async function newPaying(): Promise<Payment> {
  const order = { amount: 1000, currency: 'CNY', subject: 'x', metadata: {}, expiresInSeconds: undefined };
  const { payment } = await insertPayment(
    db,
    merchantId,
    { ...order, id: `order-${++orders}` },
    {
      channel: 'simulator',
      method: 'wallet',
      payer: undefined,
      returnUrl: undefined,
      metadata: {},
      expiresInMs: 600_000,
      askedAttempts: new Set<string>(),
    },
    () => `hash-${orders}`,
    at(0),
  );
  await recordCreated(db, payment.id, { type: 'redirect', url: 'https://wallet.example/' }, at(0));
  return await row(payment.id);
}
const row = (id: string) => db.payment.findUniqueOrThrow({ where: { id } });

/** Records an answer in the same way as a query. */
async function poll(id: string, answer: ChannelAnswer, seconds: number): Promise<'counted' | 'locked'> {
  const repeated = await repeatAnswer(db, await row(id), answer, at(seconds));
  if (repeated !== null) return 'counted';
  await recordAnswer(db, id, answer, 'query', at(seconds));
  return 'locked';
}
const entriesOf = async (paymentId: string) =>
  (await db.timelineEntry.findMany({ where: { paymentId, kind: 'query' }, orderBy: { id: 'asc' } })).map(
    ({ detail, data }) => [detail, data],
  );

/** Returns the SQL statements that the work sends to the database. */
async function statementsOf(work: () => Promise<unknown>): Promise<string[]> {
  await notificationsSent(db);
  queries.mockClear();
  await work();
  return queries.mock.calls.map(([query]) =>
    typeof query === 'string' ? query : ((query as { text?: string } | undefined)?.text ?? ''),
  );
}

/** Returns the total number of rows in the main tables. */
async function rows(): Promise<number> {
  const counts = [db.timelineEntry, db.payment, db.order, db.event, db.delivery, db.callback];
  let all = 0;
  for (const model of counts) all += await (model as typeof db.order).count();
  return all;
}

describe('a query of the worker', () => {
  let answer: ChannelAnswer = UNPAID;
  const asked: unknown[] = [];
  const adapter = {
    name: 'simulator',
    queryTrade: async (account: unknown) => {
      asked.push(account);
      return answer;
    },
  } as unknown as ChannelAdapter;
  const activities = () =>
    channelActivities({
      db,
      channels: new Map([['simulator', adapter]]),
      publicUrl: 'https://pay.example',
      secret: 'secret',
      deliveryWorkflows: { start: async () => undefined, redeliverWaiting: async () => undefined } as never,
      workflows: { wake: async () => undefined } as never,
      now: async () => at(30),
    });
  const input = (paymentId: string) => ({
    paymentId,
    startedAt: BEGAN,
    waits: [60_000, 120_000],
    hintQueries: 0,
    whileProcessingEveryMs: null,
  });

  test('if the answer repeats the last answer, the query costs two statements, takes no lock and writes no new row', async () => {
    answer = UNPAID;
    const { id } = await newPaying();
    await poll(id, UNPAID, 10);
    const before = await rows();
    const environment = new MockActivityEnvironment();
    const statements = await statementsOf(() =>
      expect(environment.run(activities().queryChannel, input(id))).rejects.toMatchObject({
        nextRetryDelay: expect.anything(),
      }),
    );
    expect(statements).toHaveLength(2);
    expect(statements.filter((text) => /FOR UPDATE|INSERT|BEGIN|notify|advisory/i.test(text))).toEqual([]);
    expect(await rows()).toBe(before);
    expect(await row(id)).toMatchObject({
      channelState: 'unpaid',
      channelStateCount: 2,
      channelStateSince: at(10),
      channelAnsweredAt: at(30),
    });
    expect(asked.at(-1)).toMatchObject({ id: accountId, merchantId, channel: 'simulator' });
  });

  test('if the payment has ended and the answer repeats the last answer, the query costs two statements', async () => {
    answer = UNPAID;
    const { id } = await newPaying();
    await poll(id, UNPAID, 10);
    await endPayment(db, id, 'closed', 'a test', at(20));
    const environment = new MockActivityEnvironment();
    const statements = await statementsOf(async () =>
      expect(await environment.run(activities().askChannel, id)).toMatchObject({ answered: true }),
    );
    expect(statements).toHaveLength(2);
  });

  test('when an answer reports money, the money and the number of equal answers before it are recorded', async () => {
    answer = PAID;
    const { id } = await newPaying();
    for (const seconds of [5, 10, 15]) await poll(id, UNPAID, seconds);
    const environment = new MockActivityEnvironment();
    expect(await environment.run(activities().queryChannel, input(id))).toMatchObject({ answer: 'paid' });
    expect((await entriesOf(id)).map(([detail]) => detail)).toEqual([
      'The channel answered unpaid.',
      'The channel answered unpaid 3 times.',
      'The channel answered paid.',
    ]);
  });
});

test('when a different answer arrives, the equal answers before it are recorded as one entry with their count, first time and last time', async () => {
  const { id } = await newPaying();
  expect(await poll(id, UNPAID, 1)).toBe('locked');
  for (let seconds = 2; seconds <= 9; seconds++) expect(await poll(id, UNPAID, seconds)).toBe('counted');
  const first = ['The channel answered unpaid.', { state: 'unpaid', by: 'query' }];
  expect(await entriesOf(id)).toEqual([first]);
  expect(await poll(id, { state: 'processing' }, 10)).toBe('locked');
  // If an answer came only once, no timeline entry counts it.
  expect(await poll(id, UNPAID, 11)).toBe('locked');
  expect(await entriesOf(id)).toEqual([
    first,
    [
      'The channel answered unpaid 9 times.',
      { state: 'unpaid', first: at(1).toISOString(), last: at(9).toISOString(), count: 9 },
    ],
    ['The channel answered processing.', { state: 'processing', by: 'query' }],
    ['The channel answered unpaid.', { state: 'unpaid', by: 'query' }],
  ]);
  expect(await row(id)).toMatchObject({ channelStateCount: 1, channelStateSince: at(11) });
});

test('a callback that reports money ends the count of equal answers, and the settlement adds no entry', async () => {
  const payment = await newPaying();
  const { id } = payment;
  for (const seconds of [1, 2]) await poll(id, UNPAID, seconds);
  const callback = ofTrade({ notificationId: 'n', outTradeNo: id, answer: PAID });
  await storeCallback(db, accountId, callback, Buffer.from('{}'), at(3));
  await settlePayment(db, id, at(4));
  expect(await entriesOf(id)).toEqual([
    ['The channel answered unpaid.', { state: 'unpaid', by: 'query' }],
    [
      'The channel answered unpaid 2 times.',
      { state: 'unpaid', first: at(1).toISOString(), last: at(2).toISOString(), count: 2 },
    ],
  ]);
  expect(await row(id)).toMatchObject({
    channelState: 'paid',
    channelStateCount: 1,
    channelAnsweredAt: at(3),
  });
});

test('the end of an unpaid payment ends the count of equal answers, and answers after the end start a new count', async () => {
  const { id } = await newPaying();
  for (const seconds of [1, 2, 3]) await poll(id, UNPAID, seconds);
  await endPayment(db, id, 'closed', 'a test', at(4));
  const before = [
    ['The channel answered unpaid.', { state: 'unpaid', by: 'query' }],
    [
      'The channel answered unpaid 3 times.',
      { state: 'unpaid', first: at(1).toISOString(), last: at(3).toISOString(), count: 3 },
    ],
  ];
  expect(await entriesOf(id)).toEqual(before);
  expect(await poll(id, UNPAID, 5)).toBe('counted');
  await recordAnswer(db, id, PAID, 'query', at(6));
  expect(await entriesOf(id)).toEqual([
    ...before,
    [
      'The channel answered unpaid 2 times.',
      { state: 'unpaid', first: at(3).toISOString(), last: at(5).toISOString(), count: 2 },
    ],
    ['The channel answered paid.', { state: 'paid', by: 'query' }],
  ]);
});

test('if an older release wrote the row without a count, the next answer begins the count', async () => {
  const { id } = await newPaying();
  await poll(id, UNPAID, 1);
  await db.payment.update({ where: { id }, data: { channelStateSince: null, channelStateCount: 0 } });
  expect(await poll(id, UNPAID, 5)).toBe('locked');
  expect(await row(id)).toMatchObject({ channelStateSince: at(5), channelStateCount: 1 });
  expect(await poll(id, UNPAID, 6)).toBe('counted');
  await endPayment(db, id, 'closed', 'a test', at(7));
  expect((await entriesOf(id)).at(-1)).toEqual([
    'The channel answered unpaid 2 times.',
    { state: 'unpaid', first: at(5).toISOString(), last: at(6).toISOString(), count: 2 },
  ]);
});

describe('an answer that is recorded in full and not counted', () => {
  const DAY = 86_400;
  test.each<[string, (id: string) => Promise<unknown>, ChannelAnswer, number]>([
    ['another answer', async () => undefined, { state: 'unknown_trade' }, 5],
    ['an attention', (id) => raiseAttention(db, id, 'channel_unreachable', 'x', at(3)), UNPAID, 5],
    ['an unreadable answer before', (id) => recordSilence(db, id, 'timeout', 1_000_000, at(3)), UNPAID, 5],
    [
      'a definite answer on record',
      (id) => recordAnswer(db, id, { state: 'closed' }, 'query', at(3)),
      UNPAID,
      5,
    ],
    [
      'a channel that decides for too long',
      (id) => poll(id, { state: 'processing' }, 3),
      { state: 'processing' },
      2 * DAY,
    ],
  ])('an answer is recorded in full because of %s', async (_name, prepare, answer, seconds) => {
    const { id } = await newPaying();
    await poll(id, UNPAID, 1);
    await prepare(id);
    const before = await row(id);
    expect(await repeatAnswer(db, before, answer, at(seconds))).toBeNull();
    expect(await row(id)).toEqual(before);
    await recordAnswer(db, id, answer, 'query', at(seconds));
  });

  test('an answer is recorded in full if the payment’s status, recorded answer or attention changed after the payment was read', async () => {
    for (const change of [
      (id: string) => endPayment(elsewhere, id, 'closed', 'a test', at(3)),
      (id: string) => recordAnswer(elsewhere, id, { state: 'processing' }, 'query', at(3)),
      (id: string) => recordAnswer(elsewhere, id, PAID, 'query', at(3)),
      (id: string) => raiseAttention(elsewhere, id, 'channel_unreachable', 'x', at(3)),
    ]) {
      const { id } = await newPaying();
      await poll(id, UNPAID, 1);
      const read = await row(id);
      await change(id);
      const before = await row(id);
      expect(await repeatAnswer(db, read, UNPAID, at(4))).toBeNull();
      expect(await row(id)).toEqual(before);
    }
  });
});

test('counting an answer does not wait for the lock of the order', async () => {
  const { id, orderId } = await newPaying();
  await poll(id, UNPAID, 1);
  const before = await row(id);
  await elsewhere.$transaction(async (tx) => {
    await tx.$queryRaw`SELECT 1 FROM orders WHERE merchant_id = ${merchantId} AND id = ${orderId} FOR UPDATE`;
    expect(await repeatAnswer(db, before, UNPAID, at(2))).toMatchObject({
      channelAnsweredAt: at(2).getTime(),
    });
  });
});
