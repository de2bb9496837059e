import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { type Counter, startCounting } from '../../bench/costs.ts';
import { COUNTED_SETTINGS, dropCallbacks, makeCountedMerchants } from '../../bench/counts.ts';
import {
  APPLICATION_NAME,
  isTransactionControl,
  StatementLog,
  takesLock,
} from '../../bench/statement-log.ts';
import { Connection } from '../../src/ledger/connection.ts';
import { type OrderService, startOrderService } from '../support/order-service.ts';
import { type System, startSystem } from '../support/system.ts';

/**
 * Tests upper bounds for the costs of a payment. The costs are counted in Temporal's history and PostgreSQL's log while
 * real processes run. `npm run bench -- counts` lists the statements. A change that makes a payment cheaper must lower
 * the bound here. If a change raises a bound, docs/performance.md must explain why.
 */

interface Bounds {
  readonly events: number;
  readonly workflowTasks: number;
  /** The number of statements, including BEGIN and COMMIT. */
  readonly statements: number;
}

const CALLBACK: Bounds = { events: 20, workflowTasks: 3, statements: 24 };
const CALLBACK_AND_ORDER_SERVICE: Bounds = { events: 26, workflowTasks: 4, statements: 58 };
const POLL: Bounds = { events: 27, workflowTasks: 4, statements: 25 };
const POLL_AND_ORDER_SERVICE: Bounds = { events: 33, workflowTasks: 5, statements: 59 };
/** The cost of a query that gets an unchanged answer for an unpaid payment. */
const UNPAID_POLL = { statements: 2, locks: 0, newRows: 0 };

const SAMPLES = 2;

let system: System;
let shop: OrderService;
let counter: Counter;
let keys: { plain: string; told: string };
beforeAll(async () => {
  shop = await startOrderService();
  system = await startSystem({ withWorker: true, env: COUNTED_SETTINGS });
  keys = await makeCountedMerchants(system, shop);
  counter = await startCounting(system);
});
afterAll(async () => {
  await counter?.close();
  await system?.stop();
  await shop?.close();
});

const CASES = [
  { by: 'callback', merchant: 'plain', bounds: CALLBACK },
  { by: 'callback', merchant: 'told', bounds: CALLBACK_AND_ORDER_SERVICE },
  { by: 'poll', merchant: 'plain', bounds: POLL },
  { by: 'poll', merchant: 'told', bounds: POLL_AND_ORDER_SERVICE },
] as const;

test.each(CASES)(
  'the cost of a payment that a $by settles is within its limit (merchant: $merchant)',
  async ({ by, merchant, bounds }) => {
    if (by === 'poll') await dropCallbacks(system.config.simulator.url);
    const channel = by === 'poll' ? 'simulator2' : 'simulator';
    for (const costs of await counter.payments(SAMPLES, { key: keys[merchant], channel, by }))
      expectWithin(costs, bounds);
  },
);

test('if a query of an unpaid payment gets an unchanged answer, the query costs no more than its limit', async () => {
  await dropCallbacks(system.config.simulator.url);
  for (const costs of await counter.unpaidPolls(SAMPLES, { key: keys.plain, channel: 'simulator2' }))
    expectWithin(costs, UNPAID_POLL);
});

test('the measured costs contain every statement of nodrop once, and no statement of other programs', async () => {
  const connect = async (name: string) => {
    const connection = new Connection({
      connectionString: system.config.databaseUrl,
      application_name: name,
    });
    await connection.connect();
    return connection;
  };
  const [own, counted, other] = await Promise.all([
    connect(APPLICATION_NAME),
    connect('nodrop-api'),
    connect('somebody else'),
  ]);
  try {
    const log = await StatementLog.open(own, join(system.config.home, 'logs', 'postgres.log'));
    const { rows } = await counted.query<{ pid: number }>('select pg_backend_pid() as pid');
    const from = log.position();
    await other.query('select 1');
    await counted.query('begin');
    await counted.query('select id\nfrom merchants\nwhere name = $1 for update', ['two\nlines']);
    await counted.query("update merchants set name = 'told' where name = 'told'");
    await counted.query('commit');
    // Of the next three statements, only the second is counted. How often nodrop runs the other two depends on the time,
    // not on the work.
    await counted.query("select id from channel_accounts where channel = $1 and id = 'a'", ['simulator']);
    await counted.query("select id from channel_accounts where merchant_id = 'm' and channel = 'simulator'");
    await counted.query("SELECT pg_notify('nodrop', $1)", ['ping/1']);
    await own.query('select 2');
    const statements = log.read(from, log.position()).filter(({ pid }) => pid === rows[0]?.pid);
    expect(statements.map(({ text }) => text.split(/\s/, 1)[0])).toEqual([
      'begin',
      'select',
      'update',
      'commit',
      'select',
    ]);
    expect(statements.map(isTransactionControl)).toEqual([true, false, false, true, false]);
    expect(statements.map(takesLock)).toEqual([false, true, false, false, false]);
    const all = log.read(0, log.position()).map(({ application }) => application);
    expect([...new Set(all)].filter((name) => !name.startsWith('nodrop-'))).toEqual([]);
    expect(all).not.toContain(APPLICATION_NAME);
  } finally {
    await Promise.all([own, counted, other].map((connection) => connection.end()));
  }
});

/** If there are too many statements, the failed test shows all counted statements. */
function expectWithin<Name extends string>(
  costs: Readonly<Record<NoInfer<Name>, number>> & { readonly ran: readonly string[] },
  bounds: Readonly<Record<Name, number>>,
): void {
  const names = Object.keys(bounds) as Name[];
  const counted = Object.fromEntries(names.map((name) => [name, costs[name]]));
  for (const name of names) {
    // Checks that something was counted. A count of zero would be within every bound.
    expect(costs.ran, 'nothing was counted').not.toEqual([]);
    expect(costs[name], `${JSON.stringify(counted)}\n${costs.ran.join('\n')}`).toBeLessThanOrEqual(
      bounds[name],
    );
  }
}
