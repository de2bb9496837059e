import { expect, test } from 'vitest';
import { statementNames } from '../../src/ledger/statement-names.ts';
import { useDatabase } from '../support/stack.ts';

const { db } = useDatabase();

test('the statement of a lookup by id is prepared once per connection, and the statement of a list is not prepared', async () => {
  const prepared = await db.$transaction(async (tx) => {
    for (const id of ['one', 'two']) await tx.payment.findUnique({ where: { id } });
    await tx.payment.findMany({ where: { id: { in: ['one', 'two', 'three'] } } });
    return await tx.$queryRaw<{ name: string; statement: string; runs: number }[]>`
      SELECT name, statement, (generic_plans + custom_plans)::int AS runs FROM pg_prepared_statements
      WHERE statement LIKE '%FROM "public"."payments"%'`;
  });
  expect(prepared).toEqual([
    {
      name: expect.stringMatching(/^nodrop_/),
      statement: expect.stringContaining('"payments"."id" = $1'),
      runs: 2,
    },
  ]);
});

test('a statement has the same name in every process, and different statements have different names', () => {
  const [one, two] = [statementNames(), statementNames()];
  const first = one({ sql: 'SELECT 1' });
  expect(first).toMatch(/^nodrop_.{22}$/);
  two({ sql: 'SELECT 2' });
  expect(two({ sql: 'SELECT 1' })).toBe(first);
  expect(one({ sql: 'SELECT 2' })).not.toBe(first);
});

test.each([
  'SELECT 1 FROM payments WHERE next_sweep_at <= $1',
  'SELECT 1 FROM orders WHERE (created_at, id) < ($1::timestamptz, $2)',
  'SELECT 1 FROM payments WHERE id IN ($1,$2)',
  'SELECT 1 FROM payments WHERE id = ANY($1)',
])('a statement has no name when its plan depends on the values: %s', (sql) => {
  expect(statementNames()({ sql })).toBeUndefined();
});

test('the number of named statements is limited, so that prepared statements cannot fill the memory of PostgreSQL', () => {
  const nameOf = statementNames();
  const names = Array.from({ length: 500 }, (_, n) => nameOf({ sql: `SELECT ${n}` }));
  expect(names.filter((name) => name !== undefined)).toHaveLength(300);
  expect(nameOf({ sql: 'SELECT 0' })).toBe(names[0]);
});
