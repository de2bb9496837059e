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
 * Counts what a payment costs on the running service, from Temporal's histories and PostgreSQL's log and WAL.
 * test/system/costs.test.ts also uses it, to enforce upper bounds of the counts.
 */

/**
 * The parts of a service that `startCounting` needs. The service runs on the embedded stack and must not have any other
 * work.
 */
export interface Counted {
  readonly config: Config;
  readonly temporal: Client;
}

export interface PaymentCosts {
  /** Number of events in the history of the completed payment workflow. */
  readonly events: number;
  readonly workflowTasks: number;
  /** Number of all statements, including BEGIN and COMMIT. */
  readonly statements: number;
  /** Number of statements that begin or end a transaction. */
  readonly transactionControl: number;
  /** Bytes of WAL, without full-page images. */
  readonly walBytes: number;
  /** The SQL statements in the order of their execution, each in a shortened form. */
  readonly ran: readonly string[];
}

export interface PollCosts {
  readonly statements: number;
  readonly transactionControl: number;
  /** Number of statements that lock a row before they change it, or that take an advisory or table lock. */
  readonly locks: number;
  readonly newRows: number;
  readonly walBytes: number;
  readonly ran: readonly string[];
}

/**
 * How nodrop learns that the payment is paid: by its callback, by a scheduled poll, or by a query that an HTTP request
 * triggers. Such a request is a hint, an operator's query, or a cancel request. Every way except `callback` needs a
 * channel that sends no callbacks.
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
   * Measures the costs of payments, each from the request to the end of the workflow. A payment that was disturbed is
   * not counted, and is replaced by another one, until `samples` payments are counted. On a slow machine, a payment may
   * be disturbed in three ways: a request is not answered with 201, an activity attempt fails or is repeated, or a poll
   * comes before the payment is paid.
   */
  payments(samples: number, payment: PaymentToCount): Promise<PaymentCosts[]>;
  /**
   * Measures what `samples` polls of an unpaid payment cost, when the channel gives the same answer to all of them.
   * Pays the payment at the end.
   */
  unpaidPolls(samples: number, payment: Pick<PaymentToCount, 'key' | 'channel'>): Promise<PollCosts[]>;
  close(): Promise<void>;
}

type HistoryEvent = NonNullable<Awaited<ReturnType<WorkflowHandle['fetchHistory']>>['events']>[number];

/**
 * The number of disturbed payments after which the measurement fails, because that many disturbances are not
 * accidental.
 */
const DISTURBED_AT_MOST = 20;

const LOOK_EVERY_MS = 50;
/**
 * The number of polls at the start of a payment that are not counted. The first poll costs more than later polls,
 * because its answer is new and nodrop records it.
 */
const POLLS_BEFORE = 1;
/** HTTP statuses after which a request is retried. */
const AGAIN = [429, 500, 502, 503, 504];

interface Mark {
  readonly position: number;
  /** Position in the WAL, in bytes. */
  readonly wal: bigint;
  readonly rows: number;
}

/**
 * Pauses the sweep, so that its work is not counted, and starts to log statements. Use this only for a stack that is
 * deleted afterwards.
 */
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
   * Creates a payment. Repeats the request if a loaded machine refuses it temporarily, because nodrop may already have
   * stored the payment, whose workflow would then run during the next measurement.
   * @returns the payment's id, and whether the first request was answered with 201.
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

  /** Repeats a request until it is accepted. @returns whether the first request was accepted */
  const request = async (key: string, id: string, action: string): Promise<boolean> => {
    for (let tries = 1; ; tries += 1) {
      const answer = await fetch(`${config.api.publicUrl}/v1/payments/${id}/${action}`, {
        method: 'POST',
        headers: { authorization: `Bearer ${key}` },
      });
      const said = await answer.text();
      // The API refuses the cancel request with 409, because the query that the request triggers finds that the payment
      // is paid.
      if (answer.ok || (action === 'cancel' && answer.status === 409)) return tries === 1;
      if (!AGAIN.includes(answer.status)) throw new Error(`${action} was answered ${answer.status}: ${said}`);
      await sleep(LOOK_EVERY_MS);
    }
  };

  const pay = async (id: string): Promise<void> => {
    // Wait until the trade exists at the channel. On a slow machine, the API may answer before the trade exists.
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

  /** Measures one payment. @returns its costs, or the reason why it is not counted */
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

/**
 * True if the event shows that an attempt of an activity or of a local activity failed or was repeated, or that a
 * workflow task failed or timed out.
 */
export function isDisturbed(event: HistoryEvent): boolean {
  return (
    (event.activityTaskStartedEventAttributes?.attempt ?? 1) > 1 ||
    event.activityTaskTimedOutEventAttributes != null ||
    event.markerRecordedEventAttributes?.failure != null ||
    event.workflowTaskTimedOutEventAttributes != null ||
    event.workflowTaskFailedEventAttributes != null
  );
}

/** Waits until the condition is true. It has no timeout. */
async function until(condition: () => Promise<boolean>): Promise<void> {
  while (!(await condition())) await sleep(LOOK_EVERY_MS);
}

async function pauseSweep(temporal: Client): Promise<void> {
  const schedule = temporal.schedule.getHandle(SWEEP_SCHEDULE_ID);
  // The schedule of the sweep may not exist yet, because a worker creates it shortly after the worker's start.
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

/** The total number of rows of all tables. */
async function countRows(connection: Connection): Promise<number> {
  const { rows } = await connection.query<{ count: string }>(`
    select sum((xpath('/row/n/text()', query_to_xml(format('select count(*) as n from %I.%I', schemaname, tablename),
      false, true, '')))[1]::text::bigint) as count
    from pg_tables where schemaname = 'public'`);
  return Number(rows[0]?.count ?? 0);
}

/**
 * Returns the number of finished polls while the workflow waits for its next poll. Returns undefined while a poll runs.
 */
async function finishedPolls(temporal: Client, paymentId: string): Promise<number | undefined> {
  const { raw } = await temporal.workflow.getHandle(paymentWorkflowId(paymentId)).describe();
  const poll = raw.pendingActivities?.find(({ activityType }) => activityType?.name === 'queryChannel');
  const isWaiting = poll?.state === SCHEDULED && (poll.attempt ?? 1) > 1;
  return isWaiting ? (poll.attempt ?? 1) - 1 : undefined;
}
/** Temporal's enum value for a pending activity that no worker is running now. */
const SCHEDULED = 1;

/**
 * Calls `mark` between two polls, after at least `atLeast` polls have finished. If a poll ran during the call, calls
 * `mark` again after this poll.
 */
async function markBetweenPolls(
  mark: () => Promise<Mark>,
  temporal: Client,
  paymentId: string,
  atLeast: number,
): Promise<{ mark: Mark; polls: number }> {
  for (;;) {
    const polls = await finishedPolls(temporal, paymentId);
    if (polls !== undefined && polls >= atLeast) {
      const taken = await mark();
      if ((await finishedPolls(temporal, paymentId)) === polls) return { mark: taken, polls };
    }
    await sleep(LOOK_EVERY_MS);
  }
}

/** The first words of a statement, for a list that a person can read. */
function shortened({ application, text }: Statement): string {
  const plain = text.replaceAll(/"public"\./g, '').replaceAll(/\s+/g, ' ');
  const name = application.replace(/^nodrop-/, '');
  return `${name}: ${plain.replace(/^SELECT .*? FROM/i, 'SELECT ... FROM').slice(0, 90)}`;
}
