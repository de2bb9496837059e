import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest';
import type { Payment, Prisma } from '../../src/generated/prisma/client.ts';
import type { LedgerClient } from '../../src/ledger/client.ts';
import { eventually } from '../support/stack.ts';
import { type Harness, startHarness } from './harness.ts';

/**
 * A restored backup or a failover can lose rows whose workflows run. Such a workflow does not retry every second: it
 * looks for its row ever more rarely, says that it is lost, and goes on when the row is there again.
 */

let h: Harness;
/** Virtual times at which the workers read a row by this id. */
const reads: { id: string; at: number }[] = [];

beforeAll(async () => {
  h = await startHarness({ beforeLedger: counting });
});
beforeEach(async () => {
  await h.simulator.setFaults({ query: { errorRate: 0 }, refund: { errorRate: 0 } });
});
afterAll(async () => {
  await h?.stop();
});

/** The same ledger, with every read of a payment or refund on record. */
function counting(db: LedgerClient): LedgerClient {
  const model = (table: 'payment' | 'refund') =>
    new Proxy(db[table], {
      get(target, name) {
        const value = Reflect.get(target, name);
        if (typeof value !== 'function' || !String(name).startsWith('findUnique')) return value;
        return (query: { where: { id: string } }) => {
          const { id } = query.where;
          const found = value.call(target, query);
          void h.now().then((at) => reads.push({ id, at }));
          return found;
        };
      },
    });
  const models = { payment: model('payment'), refund: model('refund') };
  return new Proxy(db, {
    get: (target, name) =>
      name === 'payment' || name === 'refund' ? models[name] : Reflect.get(target, name),
  });
}

const readsOf = (id: string) => reads.filter((read) => read.id === id).map(({ at }) => at);

/** Takes the rows away as a lost commit does. @returns what brings them back. */
async function lose(payment: Payment): Promise<() => Promise<void>> {
  const { id, merchantId, orderId } = payment;
  const key = { merchantId_id: { merchantId, id: orderId } };
  const [order, row] = [await h.db.order.findUniqueOrThrow({ where: key }), await h.row(id)];
  await h.db.$transaction(async (tx) => {
    await tx.timelineEntry.deleteMany({ where: { paymentId: id } });
    await tx.payment.delete({ where: { id } });
    await tx.order.delete({ where: key });
  });
  return async () => {
    await h.db.order.create({ data: order as Prisma.OrderUncheckedCreateInput });
    await h.db.payment.create({ data: row as Prisma.PaymentUncheckedCreateInput });
  };
}

/** The search attribute that the workflow has shown last. */
async function attentionShown(workflowId: string): Promise<unknown> {
  const { events } = await h.env.client.workflow.getHandle(workflowId).fetchHistory();
  const shown = (events ?? []).flatMap((event) => {
    const fields = event.upsertWorkflowSearchAttributesEventAttributes?.searchAttributes?.indexedFields;
    const data = fields?.PaymentAttention?.data;
    return data == null ? [] : [Buffer.from(data).toString()];
  });
  return shown.at(-1);
}

/** Minutes between these times. */
const gaps = (times: readonly number[]) =>
  times.slice(1).map((at, i) => Math.round((at - (times[i] ?? 0)) / 60_000));

test('a row that is gone is looked for ever more rarely, and is shown', async () => {
  const payment = await h.newPayment();
  const run = await h.start(payment);
  const bringBack = await lose(payment);
  await h.workflows.hint(payment, false, 10_000);
  await eventually(async () => (await attentionShown(run.workflowId)) === '"row_lost"');

  const before = readsOf(payment.id).length;
  await h.pass(5 * 3_600);
  // 1 min, doubling to 1 h: at 1, 3, 7, 15, 31, 63, 123, 183 and 243 minutes.
  const looks = readsOf(payment.id).slice(before - 1);
  expect(gaps(looks)).toEqual([1, 2, 4, 8, 16, 32, 60, 60, 60]);

  // Whoever asks has an answer, though there is no row to ask about.
  expect(await h.workflows.askChannel(payment, 10_000)).toBe(false);
  expect(await h.workflows.awaitNextAction(payment, 10_000)).toBe(true);

  await h.simulator.pay(payment.id);
  await bringBack();
  await h.workflows.wake(payment, 10_000);
  await run.result();
  expect(await h.row(payment.id)).toMatchObject({ status: 'succeeded', orderUpdate: 'applied' });
  expect(await attentionShown(run.workflowId)).not.toBe('"row_lost"');
});
