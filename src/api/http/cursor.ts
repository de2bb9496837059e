import { Refusal } from '../../domain/refusal.ts';
import { isStorable } from '../../domain/text.ts';
import type { FeedPosition } from '../../ledger/event-feed.ts';
import type { Place } from '../../ledger/queries.ts';

/**
 * Builds and reads opaque cursors of lists. A cursor holds the position of a page's last row. It also holds the name
 * of its list, so that the API can reject a cursor of a different list.
 */

type List = 'orders' | 'payments' | 'refunds' | 'callbacks' | 'deliveries' | 'paymentDeliveries';

const wrong = (path = 'cursor') =>
  new Refusal('invalid_request', `${path} is not a cursor of this list.`, {
    errors: [{ path, message: 'must be the nextCursor of an earlier answer' }],
  });

const seal = (content: string): string => Buffer.from(content).toString('base64url');
const open = (cursor: string): string => Buffer.from(cursor, 'base64url').toString();

/** The cursor of the next page, or null if `rows` is the last page. */
export function nextCursor(rows: readonly Place[], limit: number, list: List): string | null {
  const last = rows.at(-1);
  return last === undefined || rows.length < limit
    ? null
    : seal(`${list}/${last.createdAt.getTime()}/${last.id}`);
}

/** @throws Refusal `invalid_request` */
export function readCursor(cursor: string | undefined, list: List): Place | undefined {
  if (cursor === undefined) return undefined;
  const [, of, at, id] = /^(\w+)\/(\d{1,15})\/(.{1,64})$/u.exec(open(cursor)) ?? [];
  if (of !== list || at === undefined || id === undefined || !isStorable(id)) throw wrong();
  return { createdAt: new Date(Number(at)), id };
}

/**
 * The cursor of the next page of a timeline, or null if `rows` is the last page. The rows of a timeline are numbered.
 */
export function nextTimelineCursor(rows: readonly { readonly id: bigint }[], limit: number): string | null {
  const last = rows.at(-1);
  return last === undefined || rows.length < limit ? null : seal(`timeline/${last.id}`);
}

/** @throws Refusal `invalid_request` */
export function readTimelineCursor(cursor: string | undefined): bigint | undefined {
  if (cursor === undefined) return undefined;
  const [, id] = /^timeline\/(\d{1,18})$/.exec(open(cursor)) ?? [];
  if (id === undefined) throw wrong();
  return BigInt(id);
}

/**
 * Builds the cursor of a position in the event feed. The cursor names the feed, because other lists also have numbered
 * rows. It also contains the id of the last event, because a restored database uses the same numbers again. It contains
 * `removedTo` only if that number is higher than `seq`.
 */
export const feedCursor = ({ seq, eventId, removedTo }: FeedPosition): string =>
  seal(`events/${seq}${eventId === null ? '' : `/${eventId}`}${removedTo > seq ? `/${removedTo}` : ''}`);

/**
 * Reads a cursor of the event feed. Returns null if no cursor is given. Null means the position before the first event.
 * @throws Refusal `invalid_request`
 */
export function readFeedCursor(after: string | undefined): FeedPosition | null {
  if (after === undefined) return null;
  const [, seq, eventId = null, removedTo = 0] =
    /^events\/(\d{1,18})(?:\/(evt_\w{1,60}))?(?:\/(\d{1,18}))?$/.exec(open(after)) ?? [];
  if (seq === undefined) throw wrong('after');
  return { seq: BigInt(seq), eventId, removedTo: BigInt(removedTo) };
}
