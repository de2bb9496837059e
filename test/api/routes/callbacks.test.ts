import { request } from 'node:http';
import { beforeEach, describe, expect, test } from 'vitest';
import { BODY_LIMIT } from '../../../src/api/http/body.ts';
import { callbackPage } from '../../../src/api/schemas/callback.ts';
import { settlePayment } from '../../../src/ledger/payments.ts';
import { runningTime } from '../../support/progress.ts';
import { newKey, pay, setUp, simulatorCallback, startTestApi } from '../support.ts';

// Tests that nodrop acknowledges a callback only after storing it. A forged callback is refused, and causes one query
// of the channel.

const { api, key } = await setUp();
beforeEach(() => {
  api.workflows.down = false;
  api.workflows.calls.length = 0;
});

const send = (callback: { raw: string; headers: Record<string, string> }, path = '/callbacks/simulator') =>
  api.call(path, { ...callback, method: 'POST' });
const rowsOf = (outTradeNo: string) => api.db.callback.findMany({ where: { outTradeNo } });

test("a callback is stored, forwarded to the payment's workflow and acknowledged", async () => {
  const { id } = await pay(api, key);
  const callback = simulatorCallback(id, 'msg_first');
  const answer = await send(callback);
  expect([answer.status, answer.json]).toEqual([200, {}]);
  const [row] = await rowsOf(id);
  expect(row).toMatchObject({
    paymentId: id,
    notificationId: 'msg_first',
    answer: { state: 'paid', amount: 1050 },
  });
  expect(Buffer.from(row?.body ?? []).toString()).toBe(callback.raw);
  expect(row?.deliveredAt).not.toBeNull();
  const [delivered] = api.workflows.named('deliverCallback');
  expect(delivered?.args).toEqual([
    { callbackId: row?.id, state: 'paid', amount: 1050, currency: 'CNY' },
    2000,
  ]);
  // The stored callback alone makes the order paid, without a query.
  await settlePayment(api.db, id, new Date());
  expect((await api.call(`/v1/payments/${id}`, { key })).json).toMatchObject({
    orderUpdate: 'applied',
    settledBy: 'callback',
  });
});

test('a repeated callback is acknowledged, stored once and forwarded once', async () => {
  const { id } = await pay(api, key);
  const callback = simulatorCallback(id);
  const answers = [
    await send(callback),
    await send(callback),
    await send(simulatorCallback(id, callback.headers['webhook-id'])),
  ];
  expect(answers.map(({ status }) => status)).toEqual([200, 200, 200]);
  expect(await rowsOf(id)).toHaveLength(1);
  expect(api.workflows.named('deliverCallback')).toHaveLength(1);
  // The timeline has one entry for the callback, however often the callback is repeated.
  const noted = await api.db.timelineEntry.findMany({
    where: { paymentId: id, kind: 'callback' },
    orderBy: { id: 'asc' },
  });
  expect(noted.map(({ detail }) => detail)).toEqual([
    'The channel called back: paid.',
    'The channel called back again: paid.',
  ]);
});

test('a callback that is repeated with other content is forwarded with the new content', async () => {
  const { id } = await pay(api, key);
  const saying = (state: string, changes = {}) =>
    send(simulatorCallback(id, 'msg_same', { state, ...changes }));
  const unpaid = { transactionId: null, paidAt: null };
  // None of these callbacks settles the payment, so the signal makes the workflow query the channel.
  for (const changes of [unpaid, unpaid, { ...unpaid, state: 'NOTPAY' }]) await saying('PROCESSING', changes);
  for (const amount of [1051, 1051]) await saying('SUCCESS', { amount });
  const delivered = api.workflows.named('deliverCallback').map(({ args }) => args[0]);
  expect(delivered).toMatchObject([
    { state: 'processing' },
    { state: 'unpaid' },
    { state: 'paid', amount: 1051 },
  ]);
  // Each signal contains the id of the stored callback, because nodrop reads that row to record an external refund.
  expect(new Set(delivered.map((notice) => (notice as { callbackId: string }).callbackId)).size).toBe(3);
});

test('concurrent copies of a callback are stored as one row', async () => {
  const { id } = await pay(api, key);
  const callback = simulatorCallback(id);
  const answers = await Promise.all(Array.from({ length: 6 }, () => send(callback)));
  expect(answers.every(({ status }) => status === 200)).toBe(true);
  expect(await rowsOf(id)).toHaveLength(1);
});

test('a callback that arrives while Temporal is down is acknowledged anyway, and the sweep forwards it later', async () => {
  const { id } = await pay(api, key);
  api.workflows.down = true;
  expect((await send(simulatorCallback(id))).status).toBe(200);
  expect((await rowsOf(id))[0]?.deliveredAt).toBeNull();
});

test('a callback that matches no payment is stored and acknowledged', async () => {
  expect((await send(simulatorCallback('pay_somebody_elses'))).status).toBe(200);
  expect((await rowsOf('pay_somebody_elses'))[0]).toMatchObject({ paymentId: null, deliveredAt: null });
  expect(api.workflows.calls).toEqual([]);
});

test('a callback that could not be forwarded is forwarded when the channel sends it again', async () => {
  const { id } = await pay(api, key);
  const callback = simulatorCallback(id);
  api.workflows.down = true;
  await send(callback);
  api.workflows.down = false;
  api.workflows.calls.length = 0;
  expect((await send(callback)).status).toBe(200);
  expect(api.workflows.named('deliverCallback')).toHaveLength(1);
  const [row, ...more] = await rowsOf(id);
  expect([row?.deliveredAt === null, more]).toEqual([false, []]);
});

test('a callback that arrived before its payment existed is forwarded when the channel sends it again', async () => {
  const { id } = await pay(api, key);
  const callback = simulatorCallback(id);
  await send(callback);
  // The stored row of a callback whose payment does not exist yet.
  await api.db.callback.updateMany({
    where: { outTradeNo: id },
    data: { paymentId: null, deliveredAt: null, nextSweepAt: new Date(Date.now() + 3_600_000) },
  });
  api.workflows.calls.length = 0;
  expect((await send(callback)).status).toBe(200);
  expect(await rowsOf(id)).toMatchObject([
    { paymentId: id, nextSweepAt: null, deliveredAt: expect.any(Date) },
  ]);
  expect(api.workflows.named('deliverCallback')).toHaveLength(1);
});

test("a callback to an account has an effect only on that account's payments", async () => {
  const other = await newKey(api.db);
  const account = await api.db.channelAccount.findFirstOrThrow({
    where: { merchantId: other.merchantId, channel: 'simulator' },
  });
  const { id } = await pay(api, key);
  expect((await send(simulatorCallback(id), `/callbacks/simulator/${account.id}`)).status).toBe(200);
  expect((await rowsOf(id))[0]).toMatchObject({ paymentId: null, channelAccountId: account.id });
  const theirs = await pay(api, other.key);
  expect((await send(simulatorCallback(theirs.id), `/callbacks/simulator/${account.id}`)).status).toBe(200);
  expect((await rowsOf(theirs.id))[0]).toMatchObject({ paymentId: theirs.id });
});

test('operators see unmatched callbacks, newest first, and whether nodrop still tries to match each of them', async () => {
  const own = await newKey(api.db, 'operator');
  const account = await api.db.channelAccount.findFirstOrThrow({
    where: { merchantId: own.merchantId, channel: 'simulator' },
  });
  const to = `/callbacks/simulator/${account.id}`;
  const { id } = await pay(api, own.key);
  await send(simulatorCallback(id), to);
  for (let i = 0; i < 5; i++) await send(simulatorCallback(`foreign_${i}`, `msg_foreign_${i}`), to);
  const hours = (ago: number) => new Date(Date.now() - ago * 3_600_000 - 1);
  await api.db.callback.updateMany({ where: { outTradeNo: 'foreign_4' }, data: { receivedAt: hours(72) } });
  // All rows have the same time, which is the hardest case for reading them in pages.
  const together = { outTradeNo: { in: ['foreign_0', 'foreign_1', 'foreign_2', 'foreign_3'] } };
  await api.db.callback.updateMany({ where: together, data: { receivedAt: hours(1) } });

  const seen: { outTradeNo: string; retrying: boolean }[] = [];
  let cursor: string | null = '';
  do {
    const query: string = `unmatched=true&limit=2${cursor === '' ? '' : `&cursor=${cursor}`}`;
    const answer = await api.call(`/v1/callbacks?${query}`, { key: own.key });
    const page = callbackPage.strict().parse(answer.json);
    seen.push(...page.data);
    cursor = page.nextCursor;
  } while (cursor !== null);
  expect(seen.map(({ outTradeNo }) => outTradeNo).sort()).toEqual([
    'foreign_0',
    'foreign_1',
    'foreign_2',
    'foreign_3',
    'foreign_4',
  ]);
  expect(seen.filter(({ retrying }) => !retrying)).toEqual([seen.at(-1)]);
  expect(seen.at(-1)).toMatchObject({
    channel: 'simulator',
    channelAccountId: account.id,
    notificationId: 'msg_foreign_4',
    outTradeNo: 'foreign_4',
    state: 'paid',
    ageSeconds: expect.closeTo(72 * 3600, -2),
  });
  for (const query of ['', '?unmatched=false', '?unmatched=true&limit=0']) {
    expect((await api.call(`/v1/callbacks${query}`, { key: own.key })).status).toBe(422);
  }
});

describe('a callback', () => {
  test('that is forged is answered 401, is not stored, and makes nodrop query the trade once', async () => {
    const { id } = await pay(api, key);
    api.workflows.calls.length = 0;
    for (let i = 0; i < 3; i++) {
      const forged = simulatorCallback(id);
      const answer = await send({
        ...forged,
        headers: { ...forged.headers, 'webhook-signature': 'v1,AAAA' },
      });
      expect([answer.status, answer.json.code]).toEqual([401, 'callback_unverified']);
    }
    expect(await rowsOf(id)).toEqual([]);
    expect(api.workflows.calls).toEqual([{ name: 'hint', paymentId: id, args: [false, 2000] }]);
  });

  test('that is forged schedules no query if it names a paid payment, an unknown payment or a payment of another account', async () => {
    const { id } = await pay(api, key);
    await send(simulatorCallback(id));
    await settlePayment(api.db, id, new Date());
    const other = await newKey(api.db);
    const theirs = await pay(api, other.key);
    api.workflows.calls.length = 0;
    for (const named of [id, theirs.id, 'pay_nobody', 'a\u0000b']) {
      const forged = simulatorCallback(named);
      expect((await send({ raw: `${forged.raw} `, headers: forged.headers })).status).toBe(401);
    }
    expect(api.workflows.calls).toEqual([]);
  });

  test('that is truncated is answered 401', async () => {
    const { id } = await pay(api, key);
    const { raw, headers } = simulatorCallback(id);
    expect((await send({ raw: raw.slice(0, -10), headers })).json.code).toBe('callback_unverified');
    expect((await send({ raw: '', headers })).json.code).toBe('callback_unverified');
    expect(await rowsOf(id)).toEqual([]);
  });

  test('that is replayed after the tolerance is answered 401', async () => {
    const { id } = await pay(api, key);
    const { raw, headers } = simulatorCallback(id);
    const old = String(Number(headers['webhook-timestamp']) - 600);
    expect((await send({ raw, headers: { ...headers, 'webhook-timestamp': old } })).status).toBe(401);
  });

  test('is answered 401 if its bytes differ from the signed bytes, even if both byte sequences decode to the same text', async () => {
    const { id } = await pay(api, key);
    const { raw, headers } = simulatorCallback(id, undefined, { note: '\ufffd' });
    const [before = '', after = ''] = raw.split('\ufffd');
    const other = new Uint8Array(
      Buffer.concat([Buffer.from(before), Buffer.from([0xff]), Buffer.from(after)]),
    );
    const answer = await api.call('/callbacks/simulator', { method: 'POST', raw: other, headers });
    expect([answer.status, answer.json.code]).toEqual([401, 'callback_unverified']);
    expect(await rowsOf(id)).toEqual([]);
    expect((await send({ raw, headers })).status).toBe(200);
  });

  test('that has ten wrong signatures before the right signature is answered 401, because nodrop checks at most ten signatures', async () => {
    const { id } = await pay(api, key);
    const { raw, headers } = simulatorCallback(id);
    const behindWrong = (wrong: number) => ({
      ...headers,
      'webhook-signature': `${'v1,AAAA '.repeat(wrong)}${headers['webhook-signature']}`,
    });
    expect((await send({ raw, headers: behindWrong(10) })).status).toBe(401);
    expect((await send({ raw, headers: behindWrong(9) })).status).toBe(200);
  });

  test('that is signed but malformed is answered 400, and schedules one query of the trade', async () => {
    const { id } = await pay(api, key);
    const answer = await send(simulatorCallback(id, undefined, { amount: 'much' }));
    expect([answer.status, answer.json.code]).toEqual([400, 'callback_malformed']);
    expect(await rowsOf(id)).toEqual([]);
    expect(api.workflows.named('hint')).toHaveLength(1);
  });

  test.each([
    { paidAt: '0000-01-01T00:00:00+23:59' },
    { paidAt: '9999-12-31T23:59:59-23:59' },
    { transactionId: 'a\0b' },
    { transactionId: '\ud83d' },
  ])(
    'that is signed with values that the ledger cannot store (%o) is answered 400, and the next valid callback settles the payment',
    async (changes) => {
      const { id } = await pay(api, key);
      const answer = await send(simulatorCallback(id, undefined, changes));
      expect([answer.status, answer.json.code]).toEqual([400, 'callback_malformed']);
      expect(api.workflows.named('hint')).toHaveLength(1);
      expect((await send(simulatorCallback(id))).status).toBe(200);
      expect((await settlePayment(api.db, id, new Date())).snapshot.orderUpdate).toBe('applied');
    },
  );

  test('that is larger than 256 KiB is answered 413, with or without a Content-Length', async () => {
    const { headers } = simulatorCallback('pay_1');
    const announced = await send({ raw: 'x'.repeat(BODY_LIMIT + 1), headers });
    expect([announced.status, announced.json.code]).toEqual([413, 'payload_too_large']);
    const chunked = await new Promise<number | undefined>((resolve, reject) => {
      const sent = request(`${api.url}/callbacks/simulator`, { method: 'POST' }, (response) => {
        response.resume();
        resolve(response.statusCode);
      });
      sent.on('error', reject);
      for (let i = 0; i < 5; i++) sent.write(Buffer.alloc(BODY_LIMIT / 4));
      sent.end();
    });
    expect(chunked).toBe(413);
  });

  test.each(['/callbacks/nobody', '/callbacks/simulator/acc_nobody', '/callbacks/simulator/%00'])(
    'to %s is answered 404',
    async (path) => {
      const answer = await send(simulatorCallback('pay_1'), path);
      expect([answer.status, answer.json.code]).toEqual([404, 'not_found']);
    },
  );

  test('is answered 503 in time if the database is down, so that the channel sends the callback again', async () => {
    const dead = await startTestApi('postgresql://nodrop@127.0.0.1:1/none');
    try {
      const began = runningTime();
      const { raw, headers } = simulatorCallback('pay_1');
      const answer = await dead.call('/callbacks/simulator', { raw, headers });
      expect([answer.status, answer.json.code]).toEqual([503, 'database_unavailable']);
      expect(began()).toBeLessThan(10_000);
      expect(dead.workflows.calls).toEqual([]);
    } finally {
      await dead.close();
    }
  });
});
