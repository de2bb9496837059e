import { afterEach, beforeEach } from 'vitest';
import type { Prisma } from '../../../src/generated/prisma/client.ts';
import { createLedgerClient, type LedgerClient } from '../../../src/ledger/client.ts';
import { notifyWaiters } from '../../../src/ledger/notify.ts';
import { eventually, useDatabase } from '../../support/stack.ts';
import { type Reader, readEvents } from '../event-source.ts';
import { newKey, settle as settlePaid, startTestApi, type TestApi } from '../support.ts';

/**
 * Support for the tests of a payment's event stream. It starts a new API and readers for each test, and changes
 * payments as another process does.
 */

export const { databaseUrl } = useDatabase();
export let api: TestApi;
export let key: string;
/** A second database client, which acts as another process. */
export let elsewhere: LedgerClient;
export const readers: Reader[] = [];

beforeEach(async () => {
  api = await startTestApi(databaseUrl);
  elsewhere = createLedgerClient(databaseUrl);
  ({ key } = await newKey(api.db));
  await eventually(() => api.changes.listening);
});
afterEach(async () => {
  for (const reader of readers.splice(0)) reader.leave();
  await api.close();
  await elsewhere.$disconnect();
});

export async function watch(id: string, as = key, headers: Record<string, string> = {}, through = api) {
  const reader = await readEvents(`${through.url}/v1/payments/${id}/events`, as, headers);
  readers.push(reader);
  return reader;
}

export const settle = (id: string) => settlePaid(elsewhere, id);

/**
 * A database client in which the test can intercept the reads of one table: `findUnique`, and the SQL statement that
 * reads a payment for its payer.
 */
export function intercept(
  db: LedgerClient,
  table: 'payment' | 'apiKey',
  around: (find: () => Promise<unknown>) => Promise<unknown>,
): LedgerClient {
  const model = new Proxy(db[table], {
    get: (target, property) =>
      property === 'findUnique'
        ? (args: never) => around(() => (target.findUnique as (args: never) => Promise<unknown>)(args))
        : Reflect.get(target, property),
  });
  const queryRaw = (sql: Prisma.Sql, ...values: unknown[]) => {
    const run = () => db.$queryRaw(sql, ...values);
    const isRead = table === 'payment' && /FROM payments WHERE id = ANY/.test(sql.sql ?? '');
    return isRead ? around(run) : run();
  };
  return new Proxy(db, {
    get: (target, property) => {
      if (property === table) return model;
      return property === '$queryRaw' ? queryRaw : Reflect.get(target, property);
    },
  });
}

/** Changes the payment's row as the ledger does, and then notifies waiting requests. */
export async function edit(id: string, data: Prisma.PaymentUpdateInput): Promise<void> {
  const { merchantId, orderId } = await elsewhere.payment.update({ where: { id }, data });
  await notifyWaiters(elsewhere, merchantId, orderId, false);
}

/** Makes a change that a merchant sees and that does not end the payment. */
export const change = (id: string, detail: string) =>
  edit(id, { attention: 'channel_unreachable', attentionSince: new Date(0), attentionDetail: detail });

/**
 * The events of a reader, without the state between the recording of the answer and the settlement of the payment. A
 * reader may miss that state.
 */
export const settledOf = ({ events }: Reader) =>
  events.filter(({ data }) => data.status !== 'paying' || data.nextAction !== null);

/** These fields clear the attention that `change` raises. */
export const QUIET = { attention: null, attentionSince: null, attentionDetail: null };
