import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Client, WorkflowHandle } from '@temporalio/client';
import type { Config } from '../src/config.ts';
import { paymentWorkflowId, SWEEP_SCHEDULE_ID } from '../src/domain/names.ts';
import { Connection } from '../src/ledger/connection.ts';
import {
  APPLICATION_NAME,
  isTransactionControl,
  type Statement,
  StatementLog,
  takesLock,
} from './statement-log.ts';

/**
 * What a payment costs, counted on the running service by who does the work: Temporal's history, and PostgreSQL's own log
 * and WAL. Also used by test/system/costs.test.ts, which holds the counts to their bounds.
 */

/** What `startCounting` needs of a service on the embedded stack; the service has nothing else to do. */
export interface Counted {
  readonly config: Config;
  readonly temporal: Client;
}

export interface PaymentCosts {
  /** Of the payment's workflow, as its history is when it has completed. */
  readonly events: number;
  readonly workflowTasks: number;
  /** All of them: BEGIN and COMMIT are statements, too. */
  readonly statements: number;
  /** Of them, those that begin or end a transaction. */
  readonly transactionControl: number;
  /** Without images of whole pages. */
  readonly walBytes: number;
  /** The statements, shortened, in the order in which they ran. */
  readonly ran: readonly string[];
}

export interface PollCosts {
  readonly statements: number;
  readonly transactionControl: number;
  /** Statements that lock: a row to be changed later, or by a name. */
  readonly locks: number;
  readonly newRows: number;
  readonly walBytes: number;
  readonly ran: readonly string[];
}

/**
 * What settles the payment: its callback, a poll, or a query that somebody asks for over HTTP: a hint, an operator's query,
 * or the one before its end. All but `callback` need a channel that does not call back.
 */
export type SettledBy = 'callback' | 'poll' | 'hint' | 'query' | 'cancel';

export interface PaymentToCount {
  /** The merchant's API key. */
  readonly key: string;
  readonly channel: string;
  readonly by: SettledBy;
}

export interface Counter {
  /**
   * The costs of payments from the request to the end of the workflow, of so many that nothing disturbed. On a slow machine
   * a request is not answered with 201, an attempt fails or is repeated, or an unpaid payment is polled before it is paid:
   * that payment does not count, and another one is made.
   */
  payments(samples: number, payment: PaymentToCount): Promise<PaymentCosts[]>;
  /**
   * The costs of so many polls of an unpaid payment whose answer is the one before it. The payment is paid at the end.
   */
  unpaidPolls(samples: number, payment: Pick<PaymentToCount, 'key' | 'channel'>): Promise<PollCosts[]>;
  close(): Promise<void>;
}

type HistoryEvent = NonNullable<Awaited<ReturnType<WorkflowHandle['fetchHistory']>>['events']>[number];

/** After so many payments that something disturbed, no more are tried: it is no accident. */
const DISTURBED_AT_MOST = 20;

const LOOK_EVERY_MS = 50;
/** Of an unpaid payment: the first poll's answer is news. */
const POLLS_BEFORE = 1;
/** Trying again is safe, and likely to help. */
const AGAIN = [429, 500, 502, 503, 504];

interface Mark {
  readonly position: number;
  /** In bytes. */
  readonly wal: bigint;
  readonly rows: number;
}

/** Stops the sweep, which would be counted, and begins to log statements. Only for a stack that is thrown away. */
export async function startCounting({ config, temporal }: Counted): Promise<Counter> {
  await pauseSweep(temporal);
  const connection = new Connection({
    connectionString: config.databaseUrl,
    application_name: APPLICATION_NAME,
  });
  await connection.connect();
  const log = await StatementLog.open(connection, join(config.home, 'logs', 'postgres.log'));
  let made = 0;

  const mark = async (): Promise<Mark> => {
    const position = log.position();
    const { rows } = await connection.query<{ wal: string }>(
      "select pg_current_wal_insert_lsn() - '0/0' as wal",
    );
    return { position, wal: BigInt(rows[0]?.wal ?? 0), rows: await countRows(connection) };
  };

  /**
   * Asks again when the request is refused for now, as on a loaded machine it may be: what the first one began is not to go on beside
   * the next one.
   * @returns also whether the first request was answered with 201.
   */
  const create = async ({
    key,
    channel,
  }: Pick<PaymentToCount, 'key' | 'channel'>): Promise<{ id: string; atOnce: boolean }> => {
    made += 1;
    const order = { id: `counted-${made}`, amount: 1990, currency: 'CNY', subject: 'Coffee' };
    for (let tries = 1; ; tries += 1) {
      const answer = await fetch(`${config.api.publicUrl}/v1/payments`, {
        method: 'POST',
        headers: { authorization: `Bearer ${key}`, 'content-type': 'application/json' },
        body: JSON.stringify({ order, channel }),
      });
      const body = (await answer.json()) as { id: string };
      if (answer.ok) return { id: body.id, atOnce: tries === 1 && answer.status === 201 };
      if (!AGAIN.includes(answer.status))
        throw new Error(`A payment was answered ${answer.status}: ${JSON.stringify(body)}`);
      await sleep(LOOK_EVERY_MS);
    }
  };

  /** Until it is accepted: on a slow machine it may be refused for now. @returns whether the first one was */
  const request = async (key: string, id: string, action: string): Promise<boolean> => {
    for (let tries = 1; ; tries += 1) {
      const answer = await fetch(`${config.api.publicUrl}/v1/payments/${id}/${action}`, {
        method: 'POST',
        headers: { authorization: `Bearer ${key}` },
      });
      const said = await answer.text();
      // A cancel is refused as the payment is paid.
      if (answer.ok || (action === 'cancel' && answer.status === 409)) return tries === 1;
      if (!AGAIN.includes(answer.status)) throw new Error(`${action} was answered ${answer.status}: ${said}`);
      await sleep(LOOK_EVERY_MS);
    }
  };

  const pay = async (id: string): Promise<void> => {
    // On a slow machine the answer may come before the trade.
    await until(async () => {
      const answer = await fetch(`${config.simulator.url}/pay/${id}`, { method: 'POST' });
      await answer.arrayBuffer();
      return answer.ok;
    });
  };

  const completed = async (id: string, by: SettledBy): Promise<void> => {
    const run = temporal.workflow.getHandle(paymentWorkflowId(id));
    await until(async () => (await run.describe()).status.name === 'COMPLETED');
    if (by === 'callback') await until(() => isDelivered(connection, id));
  };

  const between = (from: Mark, to: Mark) => log.read(from.position, to.position);

  /** @returns why it does not count, when something disturbed it. */
  const once = async ({ by, ...payment }: PaymentToCount): Promise<PaymentCosts | string> => {
    const from = await mark();
    const { id, atOnce } = await create(payment);
    await pay(id);
    const accepted = by === 'callback' || by === 'poll' || (await request(payment.key, id, by));
    await completed(id, by);
    const to = await mark();
    if (!atOnce) return `payment ${id} was not created at once`;
    if (!accepted) return `the request about payment ${id} was not accepted`;
    const history = await temporal.workflow.getHandle(paymentWorkflowId(id)).fetchHistory();
    const events = history.events ?? [];
    if (events.some(isDisturbed)) return `an attempt or a task of payment ${id} failed or was repeated`;
    const statements = between(from, to);
    return {
      events: events.length,
      workflowTasks: events.filter((event) => event.workflowTaskCompletedEventAttributes != null).length,
      statements: statements.length,
      transactionControl: statements.filter(isTransactionControl).length,
      walBytes: Number(to.wal - from.wal),
      ran: statements.map(shortened),
    };
  };

  return {
    async payments(samples, payment) {
      const counted: PaymentCosts[] = [];
      let disturbed = 0;
      while (counted.length < samples) {
        const costs = await once(payment);
        if (typeof costs !== 'string') counted.push(costs);
        else if (++disturbed >= DISTURBED_AT_MOST)
          throw new Error(`${disturbed} payments were disturbed, the last one: ${costs}`);
      }
      return counted;
    },

    async unpaidPolls(samples, payment) {
      const { id } = await create(payment);
      const counted: PollCosts[] = [];
      let from = await markBetweenPolls(mark, temporal, id, POLLS_BEFORE);
      while (counted.length < samples) {
        const to = await markBetweenPolls(mark, temporal, id, from.polls + 1);
        if (to.polls === from.polls + 1) {
          const statements = between(from.mark, to.mark);
          counted.push({
            statements: statements.length,
            transactionControl: statements.filter(isTransactionControl).length,
            locks: statements.filter(takesLock).length,
            newRows: to.mark.rows - from.mark.rows,
            walBytes: Number(to.mark.wal - from.mark.wal),
            ran: statements.map(shortened),
          });
        }
        from = to;
      }
      await pay(id);
      await completed(id, 'poll');
      return counted;
    },

    close: () => connection.end(),
  };
}

/** An attempt that failed or was not the first, of a local activity too; or a workflow task that was lost. */
export function isDisturbed(event: HistoryEvent): boolean {
  return (
    (event.activityTaskStartedEventAttributes?.attempt ?? 1) > 1 ||
    event.activityTaskTimedOutEventAttributes != null ||
    event.markerRecordedEventAttributes?.failure != null ||
    event.workflowTaskTimedOutEventAttributes != null ||
    event.workflowTaskFailedEventAttributes != null
  );
}

/** Until it is so: whoever waits is ended from outside when it never is. */
async function until(condition: () => Promise<boolean>): Promise<void> {
  while (!(await condition())) await sleep(LOOK_EVERY_MS);
}

async function pauseSweep(temporal: Client): Promise<void> {
  const schedule = temporal.schedule.getHandle(SWEEP_SCHEDULE_ID);
  // A worker that has just started makes it in a moment.
  await until(() =>
    schedule.pause('npm run bench counts').then(
      () => true,
      () => false,
    ),
  );
  await until(async () => (await schedule.describe()).info.runningActions.length === 0);
}

async function isDelivered(connection: Connection, paymentId: string): Promise<boolean> {
  const { rows } = await connection.query(
    'select from callbacks where payment_id = $1 and delivered_at is not null',
    [paymentId],
  );
  return rows.length > 0;
}

/** All rows of all tables. */
async function countRows(connection: Connection): Promise<number> {
  const { rows } = await connection.query<{ count: string }>(`
    select sum((xpath('/row/n/text()', query_to_xml(format('select count(*) as n from %I.%I', schemaname, tablename),
      false, true, '')))[1]::text::bigint) as count
    from pg_tables where schemaname = 'public'`);
  return Number(rows[0]?.count ?? 0);
}

/** How many polls of the payment are over, when the next one waits for its time; undefined while one is under way. */
async function pollsOver(temporal: Client, paymentId: string): Promise<number | undefined> {
  const { raw } = await temporal.workflow.getHandle(paymentWorkflowId(paymentId)).describe();
  const poll = raw.pendingActivities?.find(({ activityType }) => activityType?.name === 'queryChannel');
  const isWaiting = poll?.state === SCHEDULED && (poll.attempt ?? 1) > 1;
  return isWaiting ? (poll.attempt ?? 1) - 1 : undefined;
}
/** Temporal's number for a pending activity that no worker has at the moment. */
const SCHEDULED = 1;

/** A mark between two polls, when so many are over, or more: the same number was over before and after it. */
async function markBetweenPolls(
  mark: () => Promise<Mark>,
  temporal: Client,
  paymentId: string,
  atLeast: number,
): Promise<{ mark: Mark; polls: number }> {
  for (;;) {
    const polls = await pollsOver(temporal, paymentId);
    if (polls !== undefined && polls >= atLeast) {
      const taken = await mark();
      if ((await pollsOver(temporal, paymentId)) === polls) return { mark: taken, polls };
    }
    await sleep(LOOK_EVERY_MS);
  }
}

/** The first words, for a list that a person reads. */
function shortened({ application, text }: Statement): string {
  const plain = text.replaceAll(/"public"\./g, '').replaceAll(/\s+/g, ' ');
  const name = application.replace(/^nodrop-/, '');
  return `${name}: ${plain.replace(/^SELECT .*? FROM/i, 'SELECT ... FROM').slice(0, 90)}`;
}
