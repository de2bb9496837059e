import { expect, test } from 'vitest';
import { CALLS_AT_ONCE, REDELIVERED_AT_ONCE } from '../../src/domain/delivery.ts';
import { MerchantConcurrency, ORDER_SERVICE_SLOTS } from '../../src/order-service/merchant-concurrency.ts';

// Tests how merchants share the activity slots of the task queue for order services. Calls hang until the test
// releases them.

class MerchantBusy extends Error {}

/** The activity slots of a worker. If no slot is free, work waits in order of arrival, as in the task queue. */
class TaskQueue {
  readonly #concurrency = new MerchantConcurrency();
  readonly #waiting: (() => void)[] = [];
  #free = ORDER_SERVICE_SLOTS;
  /** The number of calls in flight for each merchant. */
  readonly underWay = new Map<string, number>();

  async run(merchantId: string, deliveryId: string, call: () => Promise<void>): Promise<void> {
    if (this.#free === 0) await new Promise<void>((resolve) => this.#waiting.push(resolve));
    else this.#free -= 1;
    try {
      const onBusy = () => {
        throw new MerchantBusy();
      };
      await this.#concurrency.hold(merchantId, deliveryId, onBusy, async () => {
        this.underWay.set(merchantId, (this.underWay.get(merchantId) ?? 0) + 1);
        await call();
      });
    } catch (error) {
      if (!(error instanceof MerchantBusy)) throw error;
    } finally {
      const next = this.#waiting.shift();
      if (next === undefined) this.#free += 1;
      else next();
    }
  }
}

const forEver = () => new Promise<void>(() => undefined);

test.each([1, 9, 10, 11, 20, 66, 150, 199])(
  "while the calls of %i merchants with 100 events each hang, another merchant's events are delivered",
  async (merchants) => {
    const queue = new TaskQueue();
    for (let i = 0; i < merchants * 100; i++)
      void queue.run(`hangs-${i % merchants}`, `delivery-${i}`, forEver);
    let told = 0;
    await queue.run('healthy', 'delivery', async () => {
      told += 1;
    });
    expect(told).toBe(1);
    const calls = [...queue.underWay].filter(([merchantId]) => merchantId !== 'healthy');
    const total = calls.reduce((sum, [, count]) => sum + count, 0);
    // Every merchant gets at least one slot. Many merchants together use nearly all slots.
    expect(calls).toHaveLength(merchants);
    expect(total).toBeLessThan(ORDER_SERVICE_SLOTS);
    expect(total).toBeGreaterThanOrEqual(
      Math.min(merchants * CALLS_AT_ONCE, ORDER_SERVICE_SLOTS - CALLS_AT_ONCE),
    );
    expect(Math.max(...calls.map(([, count]) => count))).toBeLessThanOrEqual(CALLS_AT_ONCE);
  },
);

test("a redelivery uses at most half of a merchant's concurrent calls, so that the other half is free for new events", async () => {
  const queue = new TaskQueue();
  for (let i = 0; i < 2 * REDELIVERED_AT_ONCE; i++) void queue.run('m', `delivery-${i}`, forEver);
  await queue.run('healthy', 'd', async () => undefined);
  expect(queue.underWay.get('m')).toBe(2 * REDELIVERED_AT_ONCE);
});

test('any merchant can use a slot that has been released', async () => {
  const queue = new TaskQueue();
  const ends: (() => void)[] = [];
  const hung = [...Array(1_000)].map((_, i) =>
    queue.run(`m-${i % 10}`, `d-${i}`, () => new Promise<void>((resolve) => ends.push(resolve))),
  );
  await queue.run('healthy', 'd', async () => undefined);
  for (const end of ends) end();
  await Promise.all(hung);
  queue.underWay.clear();
  for (let i = 0; i < 100; i++) void queue.run('m-0', `again-${i}`, forEver);
  await queue.run('healthy', 'd', async () => undefined);
  expect(queue.underWay.get('m-0')).toBe(CALLS_AT_ONCE);
});
