import { readFile } from 'node:fs/promises';
import { expect, test } from 'vitest';
import { ATTENTION_NAMES } from '../../src/domain/attention.ts';
import { queryOnce, useDatabase } from '../support/stack.ts';

/** Tests that the constraints in the database are those that the code and docs/ledger.md name. */

const { db, databaseUrl } = useDatabase();

test('the database accepts all declared attentions and no others', async () => {
  const [check] = await db.$queryRaw<{ definition: string }[]>`
    SELECT pg_get_constraintdef(oid) AS definition FROM pg_constraint WHERE conname = 'payments_attention_check'`;
  const values = Array.from(check?.definition.matchAll(/'(\w+)'/g) ?? [], ([, value]) => value);
  expect(values.sort()).toEqual([...ATTENTION_NAMES].sort());
});

test('docs/ledger.md names every check, partial index and trigger', async () => {
  const text = await readFile('docs/ledger.md', 'utf8');
  const rows = await queryOnce(
    databaseUrl,
    `select conname::text as name from pg_constraint
       where connamespace = 'public'::regnamespace and contype = 'c'
     union all select indexrelid::regclass::text from pg_index
       join pg_class on pg_class.oid = indexrelid
       where relnamespace = 'public'::regnamespace and indpred is not null
     union all select tgname::text from pg_trigger where not tgisinternal`,
  );
  const names = rows.map(({ name }) => `${name}`);
  // If several tables have the same constraint, docs/ledger.md describes it once, without the name of the table: see
  // the row about states.
  const isNamed = (name: string) =>
    text.includes(`\`${name}\``) ||
    /^(orders|payments|refunds)_(amount|currency|status|id)_check$/.test(name) ||
    /^(payments_(order_update|settled_by|attention)|refunds_reason)_check$/.test(name);
  expect(names.length).toBeGreaterThan(50);
  expect(names.filter((name) => !isNamed(name))).toEqual([]);
  const gone = [...text.matchAll(/`(\w+_(?:check|idx|key|guard))`/g)].map(([, name = '']) => name);
  const known = await queryOnce(
    databaseUrl,
    "select relname::text as name from pg_class where relkind = 'i'",
  );
  const all = new Set([...names, ...known.map(({ name }) => `${name}`)]);
  expect(gone.filter((name) => !all.has(name) && !/^\.*_/.test(name))).toEqual([]);
});
