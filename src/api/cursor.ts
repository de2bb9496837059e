import { Refusal } from '../domain/refusal.ts';
import type { Place } from '../ledger/views.ts';
import { isStorable } from './schemas/common.ts';

/** Opaque cursors: the place of a page's last row, and of which list, as it means nothing in another. */

type List = 'orders' | 'payments' | 'refunds' | 'callbacks' | 'deliveries';

const wrong = (path = 'cursor') =>
  new Refusal('invalid_request', `${path} is not one of ours.`, {
    errors: [{ path, message: 'must be the nextCursor of an earlier answer' }],
  });

const seal = (content: string): string => Buffer.from(content).toString('base64url');
const open = (cursor: string): string => Buffer.from(cursor, 'base64url').toString();

/** The cursor of the next page, or null when `rows` was the last one. */
export function nextCursor(rows: readonly Place[], limit: number, list: List = 'deliveries'): string | null {
  const last = rows.at(-1);
  return last === undefined || rows.length < limit
    ? null
    : seal(`${list}/${last.createdAt.getTime()}/${last.id}`);
}

/** @throws Refusal `invalid_request` */
export function readCursor(cursor: string | undefined, list: List = 'deliveries'): Place | undefined {
  if (cursor === undefined) return undefined;
  const [, of, at, id] = /^(\w+)\/(\d{1,15})\/(.{1,64})$/.exec(open(cursor)) ?? [];
  if (of !== list || at === undefined || id === undefined || !isStorable(id)) throw wrong();
  return { createdAt: new Date(Number(at)), id };
}

/** The same for the timeline, whose rows are numbered. */
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

/** A place in the feed. */
export const feedCursor = (seq: bigint): string => seal(`events/${seq}`);

/** Before the first event for no cursor. @throws Refusal `invalid_request` */
export function readFeedCursor(after: string | undefined): bigint {
  if (after === undefined) return 0n;
  const [, seq] = /^events\/(\d{1,18})$/.exec(open(after)) ?? [];
  if (seq === undefined) throw wrong('after');
  return BigInt(seq);
}
