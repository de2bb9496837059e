import type { Attention } from './attention.ts';
import type { ChannelDispute } from './channel.ts';
import { amountText, type CurrencyCode } from './money.ts';
import { isAutomatic, type RefundReason } from './states.ts';

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
 * Whether a refund is held back by disputes. While every open one is an inquiry, no money is put aside: what a person asked
 * for may be asked of the channel, as that ends the inquiry. What nodrop owes by itself is not.
 */
export function isHeldByDispute(
  payment: Parameters<typeof isDisputed>[0] & { readonly receivedCurrency: CurrencyCode | null },
  reason: RefundReason,
): boolean {
  if (!isDisputed(payment)) return false;
  const disputes = disputesOf(payment);
  const open = disputes.filter(({ state }) => state === 'open');
  const isForeign = disputes.some(
    ({ state, currency }) => state === 'lost' && currency !== payment.receivedCurrency,
  );
  return (
    isAutomatic(reason) ||
    isForeign ||
    open.length === 0 ||
    !open.every(({ isInquiry }) => isInquiry === true)
  );
}

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
    (known.isInquiry ?? false) === (said.isInquiry ?? false) &&
    known.reason === said.reason &&
    known.respondBy === said.respondBy;
  if (isSame) return { news: 'same' };
  if (known !== undefined && known.state !== 'open' && by === 'callback') {
    return { news: known.state === said.state ? 'same' : 'contradiction' };
  }
  const at = now.toISOString();
  const { id, amount, currency, state, isInquiry = false, reason, respondBy } = said;
  const next: KeptDispute = {
    ...{ id, amount, currency, state },
    ...(isInquiry ? { isInquiry } : {}),
    ...(reason === undefined ? {} : { reason }),
    ...(respondBy === undefined ? {} : { respondBy }),
    openedAt: known?.openedAt ?? at,
    decidedAt: state === 'open' ? null : known?.state === state ? known.decidedAt : at,
  };
  const disputes = known === undefined ? [...kept, next] : kept.map((it) => (it === known ? next : it));
  return { news: 'new', disputes };
}

/** A sentence for a person: what is disputed, and until when it can be answered. */
export function describeDispute(dispute: ChannelDispute): string {
  const { id, amount, currency, state, isInquiry, reason, respondBy } = dispute;
  const what = `${isInquiry ? 'Inquiry' : 'Dispute'} ${id} of ${amountText(amount, currency)}${reason === undefined ? '' : ` (${reason})`}`;
  if (state !== 'open') return `${what} is ${state}.`;
  return respondBy === undefined
    ? `${what} is open: answer it at the channel.`
    : `${what} is open: answer it at the channel before ${respondBy}.`;
}
