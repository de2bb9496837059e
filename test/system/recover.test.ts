import { afterAll, beforeAll, expect, test } from 'vitest';
import { eventually } from '../support/stack.ts';
import { type System, startSystem } from '../support/system.ts';

/** The Temporal database is lost, whole: the ledger alone brings everything back, and nothing happens twice. */

let system: System;
beforeAll(async () => {
  system = await startSystem({ withWorker: true, env: { NODROP_QUERY_SCHEDULE: '2s' } });
});
afterAll(async () => {
  await system?.stop();
});

test('recover after a total loss of the Temporal database', async () => {
  await system.simulator.setFaults({ callback: { dropRate: 1 } });
  const [unpaid, paid, ended, done] = await Promise.all([
    system.pay(),
    system.pay(),
    system.pay(),
    system.pay(),
  ]);
  await system.simulator.pay(done.body.id);
  await system.api('POST', `/v1/payments/${ended.body.id}/cancel`);
  await eventually(async () => (await system.orderStatus(done.body.orderId)) === 'succeeded');

  await system.stopTemporal();
  const refused = await system.nodrop('recover');
  expect([refused.status, refused.output]).toEqual([1, expect.stringContaining('cannot be reached')]);
  system.loseTemporal();
  await system.simulator.pay(paid.body.id);
  await system.startTemporal();

  // A healed worker brings the search attributes and Schedules back; recover brings the workflows.
  for (let i = 0; i < 2; i++) {
    const recovered = await eventually(async () => {
      const { status, output } = await system.nodrop('recover');
      return status === 0 && output;
    });
    expect(recovered).toContain('Recovered: ');
  }
  await eventually(async () => (await system.orderStatus(paid.body.orderId)) === 'succeeded', 90_000);
  for (const id of [unpaid.body.id, ended.body.id]) {
    const run = await system.temporal.workflow.getHandle(`payment/${id}`).describe();
    expect(run.status.name).toBe('RUNNING');
  }
  await system.simulator.pay(unpaid.body.id);
  await eventually(async () => (await system.orderStatus(unpaid.body.orderId)) === 'succeeded', 60_000);

  const trades = await system.simulator.ledger();
  expect(trades.map(({ createdCount }) => createdCount)).toEqual([1, 1, 1, 1]);
  expect(trades.map(({ state }) => state).sort()).toEqual(['CLOSED', 'SUCCESS', 'SUCCESS', 'SUCCESS']);
  const told = await system.db.timelineEntry.findMany({ where: { kind: 'order' } });
  expect(told).toHaveLength(3);
});
