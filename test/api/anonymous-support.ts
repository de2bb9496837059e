import { randomUUID } from 'node:crypto';
import pg from 'pg';
import { afterEach, vi } from 'vitest';
import { UNVERIFIED_A_MINUTE } from '../../src/api/routes/callbacks.ts';
import type { TestApi } from './support.ts';
import { type Call, newKey, pay, setUp } from './support.ts';

/**
 * Support for the tests of limits on requests without valid credentials. It starts an API with a clock that the tests
 * set, and records the SQL statements of this API.
 */

export const clock = { now: Math.floor(Date.now() / 60_000) * 60_000 };
export const now = () => new Date(clock.now);
export const { database, api, key } = await setUp({ now });

/** The recorded calls that send SQL to the database. */
export const queries = vi.spyOn(pg.Client.prototype, 'query');
export const textOf = ([query]: readonly unknown[]) =>
  typeof query === 'string' ? query : ((query as { text?: string } | undefined)?.text ?? '');
/**
 * The SQL statements after the first `since` recorded calls, without the pings of the listening connection and the
 * statements that run once a second.
 */
export const statements = (since: number) =>
  queries.mock.calls
    .slice(since)
    .map(textOf)
    .filter((text) => !/pg_notify|unverified_callback/.test(text) && !isCombinedLookup(text));
/** The SQL statements that read accounts, after the first `since` recorded calls. */
export const accountReads = (since: number) =>
  queries.mock.calls.slice(since).filter((call) => /FROM channel_accounts AS account/.test(textOf(call)));
/** @returns true if the SQL statement is the combined lookup of all waiting keys and tokens */
export const isCombinedLookup = (text: string) => /AS named \(payment_id, hash\)/.test(text);

afterEach(() => {
  // Starts a new time window for every limit.
  clock.now += 120_000;
});

export const bogus = () => randomUUID().replaceAll('-', '');
export const forgedCallback = (content: object): Call => ({
  method: 'POST',
  raw: JSON.stringify(content),
  headers: { 'content-type': 'application/json', 'webhook-signature': 'v1,AAAA' },
});
export const forged = (to: TestApi, content: object, path = '/callbacks/simulator') =>
  to.call(path, forgedCallback(content));
export async function exhaustCallbacks(to: TestApi, path?: string) {
  for (let n = 0; n <= UNVERIFIED_A_MINUTE; n += 1) await forged(to, { n }, path);
}

export async function paymentOfNewAccount() {
  const { key: theirs, merchantId } = await newKey(api.db);
  const { id } = await pay(api, theirs);
  const { id: accountId } = await api.db.channelAccount.findFirstOrThrow({
    where: { merchantId, channel: 'simulator' },
  });
  return { accountId, id };
}
