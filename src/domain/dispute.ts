import type { Attention } from './attention.ts';
import type { ChannelDispute } from './channel.ts';
import { sayAmount } from './money.ts';

/** What becomes of a payer's dispute of a trade. Pure. */

/** A dispute as the ledger keeps it with its payment. Times are ISO 8601. */
export interface KeptDispute extends ChannelDispute {
  /** When it was first heard of. */
  readonly openedAt: string;
  /** When its end was heard of; null while it is open. */
  readonly decidedAt: string | null;
}

/** A trade with more is none of ours. */
const DISPUTES_AT_MOST = 20;

/** `payments.disputes`, the oldest first. */
export const disputesOf = ({ disputes }: { readonly disputes: unknown }): readonly KeptDispute[] =>
  (disputes as readonly KeptDispute[] | null) ?? [];

/**
 * The channel decides over the money: no refund is asked for meanwhile. Also when it is decided in another currency than
 * came in: then it is shown until a person has seen it.
 */
export const isDisputed = (payment: {
  readonly attention: Attention | null;
  readonly disputes: unknown;
}): boolean => payment.attention === 'disputed' || disputesOf(payment).some(({ state }) => state === 'open');

/**
 * What a channel's word changes.
 * - `new`: the disputes are now `disputes`.
 * - `same`: nothing new.
 * - `contradiction`: a callback says something else of a dispute that is decided. Callbacks come in any order: only an
 *   answer to a query can change what is decided, so the channel is to be asked.
 */
export function withDispute(
  kept: readonly KeptDispute[],
  said: ChannelDispute,
  by: 'callback' | 'query',
  now: Date,
): { readonly news: 'new'; readonly disputes: readonly KeptDispute[] } | { news: 'same' | 'contradiction' } {
  const known = kept.find(({ id }) => id === said.id);
  if (known === undefined && kept.length >= DISPUTES_AT_MOST) return { news: 'same' };
  const isSame =
    known !== undefined &&
    known.state === said.state &&
    known.amount === said.amount &&
    known.currency === said.currency &&
    known.reason === said.reason &&
    known.respondBy === said.respondBy;
  if (isSame) return { news: 'same' };
  if (known !== undefined && known.state !== 'open' && by === 'callback') {
    return { news: known.state === said.state ? 'same' : 'contradiction' };
  }
  const at = now.toISOString();
  const { id, amount, currency, state, reason, respondBy } = said;
  const next: KeptDispute = {
    ...{ id, amount, currency, state },
    ...(reason === undefined ? {} : { reason }),
    ...(respondBy === undefined ? {} : { respondBy }),
    openedAt: known?.openedAt ?? at,
    decidedAt: state === 'open' ? null : known?.state === state ? known.decidedAt : at,
  };
  const disputes = known === undefined ? [...kept, next] : kept.map((it) => (it === known ? next : it));
  return { news: 'new', disputes };
}

/** A sentence for a person: what is disputed, and until when it can be answered. */
export function sayDispute({ id, amount, currency, state, reason, respondBy }: ChannelDispute): string {
  const what = `Dispute ${id} of ${sayAmount(amount, currency)}${reason === undefined ? '' : ` (${reason})`}`;
  if (state !== 'open') return `${what} is ${state}.`;
  return respondBy === undefined
    ? `${what} is open: answer it at the channel.`
    : `${what} is open: answer it at the channel before ${respondBy}.`;
}
