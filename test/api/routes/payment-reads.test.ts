import { beforeEach, describe, expect, test } from 'vitest';
import { paymentPage, timelinePage } from '../../../src/api/schemas/payment.ts';
import { endPayment, raiseAttention, recordAnswer, recordSilence } from '../../../src/ledger/payments.ts';
import { newKey, pay, StandInWorkflows, setUp, startTestApi, type TestApi } from '../support.ts';

// Tests three requests over HTTP: reading a payment, asking nodrop to query the channel now, and sending a payer's
// hint.

const { database, api, key, merchantId } = await setUp();
beforeEach(() => {
  const fresh = new StandInWorkflows(api.db);
  Object.assign(api.workflows, {
    down: false,
    onAwaitNextAction: fresh.onAwaitNextAction,
    onAskChannel: fresh.onAskChannel,
  });
  api.workflows.calls.length = 0;
});

describe('reading payments', () => {
  test("an operator gets the payment's link to the Temporal Web UI, but a merchant does not", async () => {
    const operator = await newKey(api.db, 'operator');
    const made = await pay(api, operator.key);
    const { json } = await api.call(`/v1/payments/${made.id}`, { key: operator.key });
    expect(json.temporalUrl).toBe(`http://127.0.0.1:8233/namespaces/default/workflows/payment%2F${made.id}`);
    expect(json.clientToken).toBeNull();
    expect((await pay(api, key)).temporalUrl).toBeNull();
  });

  test('the list of payments can be filtered, and its pages have no gaps', async () => {
    const own = await newKey(api.db);
    const made: string[] = [];
    for (let i = 0; i < 5; i++)
      made.unshift((await pay(api, own.key, { channel: i % 2 === 0 ? 'simulator' : 'simulator2' })).id);
    await raiseAttention(api.db, made[0] ?? '', 'channel_unreachable', 'silent', new Date());
    const list = async (query: string) =>
      paymentPage.parse((await api.call(`/v1/payments?${query}`, { key: own.key })).json);
    const ids = async (query: string) => (await list(query)).data.map(({ id }) => id);
    expect(await ids('')).toEqual(made);
    expect(await ids('channel=simulator2')).toEqual([made[1], made[3]]);
    expect(await ids('attention=true')).toEqual([made[0]]);
    expect(await ids('attention=false')).toEqual(made);
    for (const name of ['status', 'orderId', 'channel', 'attention', 'limit', 'cursor']) {
      const empty = await api.call(`/v1/payments?${name}=`, { key: own.key });
      expect([empty.status, empty.json.code, empty.json.errors[0].path]).toEqual([
        422,
        'invalid_request',
        name,
      ]);
    }
    expect(await ids('status=created')).toEqual([]);
    const orderId = (await api.db.payment.findUniqueOrThrow({ where: { id: made[4] ?? '' } })).orderId;
    expect(await ids(`orderId=${orderId}`)).toEqual([made[4]]);
    const first = await list('limit=2');
    const second = await list(`limit=2&cursor=${first.nextCursor}`);
    const third = await list(`limit=2&cursor=${second.nextCursor}`);
    expect([...first.data, ...second.data, ...third.data].map(({ id }) => id)).toEqual(made);
    expect(third.nextCursor).toBeNull();
  });

  test('the timeline of a payment is listed oldest first, in pages', async () => {
    const made = await pay(api, key);
    const page = timelinePage.parse((await api.call(`/v1/payments/${made.id}/timeline`, { key })).json);
    expect(page.data.map(({ kind }) => kind)).toEqual(['transition', 'transition']);
    expect(page.nextCursor).toBeNull();
    const first = (await api.call(`/v1/payments/${made.id}/timeline?limit=1`, { key })).json;
    const second = (
      await api.call(`/v1/payments/${made.id}/timeline?limit=1&cursor=${first.nextCursor}`, { key })
    ).json;
    expect([...first.data, ...second.data]).toEqual(page.data);
  });

  test.each(['', '/timeline', '/query', '/hint'])(
    "an unknown payment, or another merchant's payment, is answered 404 at the path /v1/payments/{id}%s",
    async (route) => {
      const other = await newKey(api.db);
      const theirs = await pay(api, other.key);
      const method = route === '/query' || route === '/hint' ? 'POST' : 'GET';
      for (const id of [theirs.id, 'pay_nobody', '%00', 'a.b', 'x'.repeat(99)]) {
        const answer = await api.call(`/v1/payments/${id}${route}`, { key, method });
        expect([answer.status, answer.json.code]).toEqual([404, 'payment_not_found']);
      }
      expect(
        (await api.call('/v1/payments?limit=100', { key })).json.data.every(
          (row: { id: string }) => row.id !== theirs.id,
        ),
      ).toBe(true);
      expect(api.workflows.named('hint')).toEqual([]);
      expect(merchantId).not.toBe(other.merchantId);
    },
  );
});

describe('a request to query the channel immediately', () => {
  test("returns the payment with the channel's new answer", async () => {
    const made = await pay(api, key);
    api.workflows.onAskChannel = async ({ id }) => {
      await recordAnswer(api.db, id, { state: 'closed' }, 'query', new Date());
      await endPayment(api.db, id, 'closed', 'closed at the channel', new Date());
      return true;
    };
    const answer = await api.call(`/v1/payments/${made.id}/query`, { key, method: 'POST' });
    expect([answer.status, answer.json.status]).toEqual([200, 'closed']);
  });

  test('is answered 504 if the channel or the worker does not answer, and 503 if Temporal is down', async () => {
    const made = await pay(api, key);
    const ask = () => api.call(`/v1/payments/${made.id}/query`, { key, method: 'POST' });
    api.workflows.onAskChannel = async () => false;
    const silent = await ask();
    expect([silent.status, silent.json.code]).toEqual([504, 'channel_unreachable']);
    // The API answers immediately here, so the message does not name a waiting time.
    expect(silent.json.detail).toBe('simulator gave no readable answer.');
    api.workflows.down = true;
    expect((await ask()).json.code).toBe('temporal_unavailable');
    const idle = await startTestApi(database.url, { isTemporalReachable: async () => true });
    idle.workflows.down = true;
    const answer = await idle.call(`/v1/payments/${made.id}/query`, { key, method: 'POST' });
    expect([answer.status, answer.json.code]).toEqual([504, 'channel_unreachable']);
    await idle.close();
  });
});

describe('repeated requests to query the channel', () => {
  const query = (at: TestApi, id: string) => at.call(`/v1/payments/${id}/query`, { key, method: 'POST' });

  test('get the recorded answer if it is less than 1 s old, and otherwise cause a query of the channel', async () => {
    let clock = Date.now();
    const own = await startTestApi(database.url, { now: () => new Date(clock) });
    try {
      const { id } = await pay(own, key);
      own.workflows.onAskChannel = async () => {
        await recordAnswer(own.db, id, { state: 'unpaid' }, 'query', new Date(clock));
        return true;
      };
      const loop = async (times: number) => {
        own.workflows.calls.length = 0;
        for (let i = 0; i < times; i++) expect((await query(own, id)).json).toMatchObject({ id });
        return own.workflows.named('askChannel').length;
      };
      expect(await loop(3)).toBe(1);
      clock += 999;
      expect(await loop(3)).toBe(0);
      clock += 1;
      expect(await loop(3)).toBe(1);
      // The API's clock is now a second behind the worker's clock.
      clock -= 1_000;
      expect(await loop(1)).toBe(1);
      await recordSilence(own.db, id, 'no answer', 300_000, new Date(clock));
      expect(await loop(1)).toBe(1);
    } finally {
      await own.close();
    }
  });

  test('share one query and its result if they are concurrent', async () => {
    const { id } = await pay(api, key);
    for (const answered of [false, true]) {
      api.workflows.calls.length = 0;
      let release = () => {};
      const held = new Promise<void>((resolve) => {
        release = resolve;
      });
      api.workflows.onAskChannel = async () => {
        await held;
        if (answered) await recordAnswer(api.db, id, { state: 'unpaid' }, 'query', new Date());
        return answered;
      };
      const asked = Array.from({ length: 6 }, () => query(api, id));
      // Once these later requests are answered, the earlier requests have also arrived.
      for (let i = 0; i < 100; i++) await api.call(`/v1/payments/${id}`, { key });
      release();
      const statuses = (await Promise.all(asked)).map(({ status }) => status);
      expect(statuses).toEqual(Array(6).fill(answered ? 200 : 504));
      expect(api.workflows.named('askChannel')).toHaveLength(1);
    }
  });
});

describe('hints of a payer', () => {
  const hint = (id: string) => api.call(`/v1/payments/${id}/hint`, { key, method: 'POST' });

  test("the payer's first hint signals the workflow, and hints within the next 10 s are accepted without a signal", async () => {
    const { id } = await pay(api, key);
    expect((await Promise.all([hint(id), hint(id), hint(id)])).map(({ status }) => status)).toEqual([
      202, 202, 202,
    ]);
    expect(api.workflows.named('hint').map(({ args }) => args)).toEqual([[true, 2000]]);
  });

  test("after five phases of frequent queries, a payer's hint starts no further phase and causes only one query", async () => {
    const { id } = await pay(api, key);
    await api.db.payment.update({ where: { id }, data: { tightPhases: 5 } });
    await hint(id);
    expect(api.workflows.named('hint').map(({ args }) => args)).toEqual([[false, 2000]]);
  });

  test('if Temporal does not confirm a hint, the hint is refused, and the next hint is accepted', async () => {
    const { id } = await pay(api, key);
    api.workflows.down = true;
    expect((await hint(id)).json.code).toBe('temporal_unavailable');
    api.workflows.down = false;
    expect((await hint(id)).status).toBe(202);
    expect(api.workflows.named('hint')).toHaveLength(2);
    expect((await api.db.payment.findUniqueOrThrow({ where: { id } })).tightPhases).toBe(1);
  });
});
