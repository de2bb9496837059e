import { afterEach, beforeEach, expect, test } from 'vitest';
import { Changes, type Wait } from '../../../src/api/changes.ts';
import { createLedgerClient } from '../../../src/ledger/client.ts';
import { recordCreated } from '../../../src/ledger/payments.ts';
import { NET_MS } from '../../support/progress.ts';
import { eventually } from '../../support/stack.ts';
import { newOrderId, setUp, startTestApi, type TestApi } from '../support.ts';

/** A request for a new payment starts its workflow, and waits for what the ledger says of it. */

const { database, key } = await setUp();
const worker = createLedgerClient(database.url);
const silent = { warn: () => undefined, info: () => undefined };

/** What ends a wait is the change itself: no wait is over because its time is up. */
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

/** An API of its own, whose workflows start and do nothing: what they would do is the test's. */
async function start(changes?: Changes): Promise<TestApi> {
  one = await startTestApi(database.url, changes === undefined ? {} : { changes });
  one.workflows.onAwaitNextAction = async () => true;
  return one;
}

const inline = () => ({ order: { id: newOrderId(), amount: 1050, currency: 'CNY' }, channel: 'simulator' });

/** Asks for a payment; resolves once its workflow has been told. */
async function asked(api: TestApi, body = inline()) {
  const before = api.workflows.named('start').length;
  const answer = api.call('/v1/payments', { key, body });
  const call = await eventually(() => api.workflows.named('start')[before]);
  return { answer, id: call.paymentId, isNew: call.args[0] };
}

const create = async (id: string) =>
  await recordCreated(worker, id, { type: 'redirect', url: `https://wallet.example/${id}` }, new Date());

test('it is answered when the ledger says that the payer can pay, whoever wrote that', async () => {
  // It never looks for itself: it has to be notified.
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

test('the same request meanwhile starts nothing as new, and waits for the same', async () => {
  const api = await start();
  const body = inline();
  const first = await asked(api, body);
  const second = await asked(api, body);
  expect([second.id, second.isNew]).toEqual([first.id, false]);
  await create(first.id);
  expect((await first.answer).status).toBe(201);
  expect((await second.answer).status).toBe(200);
});

test('a workflow that was done before it was waited for is no change that is missed', async () => {
  const api = await start();
  api.workflows.onAwaitNextAction = async ({ id }) => {
    await create(id);
    return true;
  };
  expect((await (await asked(api)).answer).status).toBe(201);
});

test('while nothing is heard of changes it looks for itself', async () => {
  // Never started, so it does not listen.
  const api = await start(new WithoutDeadline(database.url, silent));
  const { answer, id } = await asked(api);
  await create(id);
  expect((await answer).status).toBe(201);
});

test('it has a place though as many wait as may', async () => {
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

test('a service that stops meanwhile answers what it would have answered', async () => {
  const api = await start();
  const { answer, id } = await asked(api);
  const stopped = api.close(NET_MS);
  one = undefined;
  await create(id);
  expect((await answer).status).toBe(201);
  await stopped;
});
