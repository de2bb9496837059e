import { Refusal } from '../domain/refusal.ts';
import { isStorable } from '../domain/text.ts';
import type { FeedPlace } from '../ledger/feed.ts';
import type { Place } from '../ledger/views.ts';

/** Opaque cursors: the place of a page's last row. */

const wrong = (path = 'cursor') =>
  new Refusal('invalid_request', `${path} is not one of ours.`, {
    errors: [{ path, message: 'must be the nextCursor of an earlier answer' }],
  });

const seal = (content: string): string => Buffer.from(content).toString('base64url');
const open = (cursor: string): string => Buffer.from(cursor, 'base64url').toString();

/** The cursor of the next page, or null when `rows` was the last one. */
export function nextCursor(rows: readonly Place[], limit: number): string | null {
  const last = rows.at(-1);
  return last === undefined || rows.length < limit ? null : seal(`${last.createdAt.getTime()}/${last.id}`);
}

/** @throws Refusal `invalid_request` */
export function readCursor(cursor: string | undefined): Place | undefined {
  if (cursor === undefined) return undefined;
  const match = /^(\d{1,15})\/(.{1,64})$/.exec(open(cursor));
  const [, at, id] = match ?? [];
  if (at === undefined || id === undefined || !isStorable(id)) throw wrong();
  return { createdAt: new Date(Number(at)), id };
}

/** The same for lists whose rows are numbered. */
export function nextSerialCursor(rows: readonly { readonly id: bigint }[], limit: number): string | null {
  const last = rows.at(-1);
  return last === undefined || rows.length < limit ? null : seal(String(last.id));
}

/** @throws Refusal `invalid_request` */
export function readSerialCursor(cursor: string | undefined): bigint | undefined {
  if (cursor === undefined) return undefined;
  const content = open(cursor);
  if (!/^\d{1,18}$/.test(content)) throw wrong();
  return BigInt(content);
}

/**
 * A place in the feed. It says so, as lists are numbered as well and their places mean nothing here. What was removed
 * before the reader began is told only as long as the reader is not past it.
 */
export const feedCursor = ({ seq, removedTo }: FeedPlace): string =>
  seal(`events/${seq}${removedTo > seq ? `/${removedTo}` : ''}`);

/** Null, before the first event, for no cursor. @throws Refusal `invalid_request` */
export function readFeedCursor(after: string | undefined): FeedPlace | null {
  if (after === undefined) return null;
  const [, seq, removedTo] = /^events\/(\d{1,18})(?:\/(\d{1,18}))?$/.exec(open(after)) ?? [];
  if (seq === undefined) throw wrong('after');
  return { seq: BigInt(seq), removedTo: BigInt(removedTo ?? 0) };
}
