// Tests the servers that other tests use.
import { Client, Connection } from '@temporalio/client';
import { expect, test } from 'vitest';
import { SEARCH_ATTRIBUTES } from '../../src/temporal/search-attributes.ts';
import { freshDatabase, queryOnce, startTemporal, timeSkippingEnvironment } from '../support/stack.ts';

const attributes = Object.fromEntries(SEARCH_ATTRIBUTES.map((name) => [name, ['x']]));

test('each fresh database has all migrations, and is independent of the others', async () => {
  const [one, two] = await Promise.all([freshDatabase(), freshDatabase()]);
  await queryOnce(one.url, 'create table mine (id int)');
  await expect(queryOnce(two.url, 'select * from mine')).rejects.toThrow('does not exist');
  expect(await queryOnce(two.url, 'select count(*)::int as n from _prisma_migrations')).not.toEqual([
    { n: 0 },
  ]);
  await Promise.all([one.drop(), two.drop()]);
});

test("the embedded Temporal server has nodrop's search attributes and keeps histories for 30 days", async () => {
  const temporal = await startTemporal();
  const connection = await Connection.connect({ address: temporal.address });
  try {
    const client = new Client({ connection, namespace: temporal.namespace });
    await client.workflow.start('any', {
      workflowId: 'any',
      taskQueue: 'none',
      searchAttributes: attributes,
    });
    const { config } = await connection.workflowService.describeNamespace({ namespace: temporal.namespace });
    expect(Number(config?.workflowExecutionRetentionTtl?.seconds)).toBe(30 * 86_400);
  } finally {
    await connection.close();
    await temporal.stop();
  }
});

test("the time-skipping server has nodrop's search attributes", async () => {
  const environment = await timeSkippingEnvironment();
  try {
    await environment.client.workflow.start('any', {
      workflowId: 'any',
      taskQueue: 'none',
      searchAttributes: attributes,
    });
  } finally {
    await environment.teardown();
  }
});
