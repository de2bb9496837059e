import { afterEach, beforeEach, expect, test } from 'vitest';
import { Changes, type Wait } from '../../../src/api/changes.ts';
import { createLedgerClient } from '../../../src/ledger/client.ts';
import { recordCreated } from '../../../src/ledger/payments.ts';
import { NET_MS } from '../../support/progress.ts';
import { eventually } from '../../support/stack.ts';
import { newOrderId, setUp, startTestApi, type TestApi } from '../support.ts';

/**
 * Tests that a request for a new payment starts the payment's workflow, and waits until the result is in the ledger.
 */

const { database, key } = await setUp();
const worker = createLedgerClient(database.url);
const silent = { warn: () => undefined, info: () => undefined };

/** Waits for changes without a timeout, so only a change ends the wait. */
class WithoutDeadline extends Changes {
  override async until<T>(key: string, wait: Wait<T>): Promise<T> {
    return await super.until(key, { ...wait, timeoutMs: NET_MS });
  }
}
const NEVER = { fallbackMs: NET_MS, readAgainMs: NET_MS };

let one: TestApi | undefined;
beforeEach(() => {
  one = undefined;
});
afterEach(async () => {
  await one?.close();
});

/** Starts an API whose workflows do nothing. The tests write to the ledger what workflows would write. */
async function start(changes?: Changes): Promise<TestApi> {
  one = await startTestApi(database.url, changes === undefined ? {} : { changes });
  one.workflows.onAwaitNextAction = async () => true;
  return one;
}

const inline = () => ({ order: { id: newOrderId(), amount: 1050, currency: 'CNY' }, channel: 'simulator' });

/** Requests a payment. Resolves once the payment's workflow is started. */
async function asked(api: TestApi, body = inline()) {
  const before = api.workflows.named('start').length;
  const answer = api.call('/v1/payments', { key, body });
  const call = await eventually(() => api.workflows.named('start')[before]);
  return { answer, id: call.paymentId, isNew: call.args[0] };
}

const create = async (id: string) =>
  await recordCreated(worker, id, { type: 'redirect', url: `https://wallet.example/${id}` }, new Date());

test('a request for a payment is answered as soon as any process writes the next action to the ledger', async () => {
  // The requests never poll here, so only a notification can end their wait.
  const changes = new WithoutDeadline(database.url, silent, undefined, undefined, NEVER);
  changes.start();
  try {
    await eventually(() => changes.listening);
    const { answer, id, isNew } = await asked(await start(changes));
    expect(isNew).toBe(true);
    await create(id);
    const { status, json } = await answer;
    expect([status, json.status, json.payUrl]).toEqual([201, 'paying', `https://wallet.example/${id}`]);
  } finally {
    await changes.close();
  }
});

test('a repeated request for a payment starts no second payment, and waits for the next action of the first payment', async () => {
  const api = await start();
  const body = inline();
  const first = await asked(api, body);
  const second = await asked(api, body);
  expect([second.id, second.isNew]).toEqual([first.id, false]);
  await create(first.id);
  expect((await first.answer).status).toBe(201);
  expect((await second.answer).status).toBe(200);
});

test('a request finds a next action that the workflow writes before the request begins to wait', async () => {
  const api = await start();
  api.workflows.onAwaitNextAction = async ({ id }) => {
    await create(id);
    return true;
  };
  expect((await (await asked(api)).answer).status).toBe(201);
});

test('if no notification arrives, a request for a payment still reads the next action from the ledger', async () => {
  // `Changes` was never started, so it does not listen for notifications.
  const api = await start(new WithoutDeadline(database.url, silent));
  const { answer, id } = await asked(api);
  await create(id);
  expect((await answer).status).toBe(201);
});

test('a new request for a payment gets a slot even if all slots for waiting requests are in use', async () => {
  const changes = new Changes(database.url, silent, 1);
  changes.start();
  const leaving = new AbortController();
  const waiting = changes.until('another', {
    read: async () => undefined,
    done: () => false,
    timeoutMs: NET_MS,
    signal: leaving.signal,
  });
  try {
    expect(changes.hasRoom('another')).toBe(false);
    const api = await start(changes);
    const { answer, id } = await asked(api);
    await create(id);
    expect((await answer).status).toBe(201);
  } finally {
    leaving.abort();
    await waiting;
    await changes.close();
  }
});

test('if the service stops while it handles a request for a payment, the request still gets its normal answer', async () => {
  const api = await start();
  const { answer, id } = await asked(api);
  const stopped = api.close(NET_MS);
  one = undefined;
  await create(id);
  expect((await answer).status).toBe(201);
  await stopped;
});
