import type { Attention } from './attention.ts';
import type { ChannelDispute } from './channel.ts';
import { amountText, type CurrencyCode } from './money.ts';
import { isAutomatic, type RefundReason } from './states.ts';

/**
 * Defines the rules for disputes. In a dispute, a payer contests a trade at their bank. All functions in this file are
 * pure.
 */

/** A dispute as the ledger stores it with its payment. Times are ISO 8601. */
export interface KeptDispute extends ChannelDispute {
  /** When nodrop learned of the dispute. */
  readonly openedAt: string;
  /** When nodrop learned of the decision about the dispute. Null while the dispute is open. */
  readonly decidedAt: string | null;
}

/**
 * The maximum number of disputes that nodrop stores for a payment. It limits the stored data. Real trades have fewer
 * disputes.
 */
const DISPUTES_AT_MOST = 20;

/** The disputes in `payments.disputes`, oldest first. */
export const disputesOf = ({ disputes }: { readonly disputes: unknown }): readonly KeptDispute[] =>
  (disputes as readonly KeptDispute[] | null) ?? [];

/**
 * True while the channel decides about the money of a disputed payment. If a dispute in another currency than the
 * payment's was lost, the result stays true until a person clears the attention. `isHeldByDispute` decides whether a
 * refund must wait.
 */
export const isDisputed = (payment: {
  readonly attention: Attention | null;
  readonly disputes: unknown;
}): boolean => payment.attention === 'disputed' || disputesOf(payment).some(({ state }) => state === 'open');

/**
 * True if a refund of the payment must wait for open disputes. An inquiry withholds no money, and a refund ends it. So
 * if all open disputes are inquiries, nodrop sends a refund that a person requested. An automatic refund waits for the
 * end of the inquiries.
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
 * Applies a channel's report of a dispute to the disputes of its payment, and returns what the report has changed.
 * - `new`: the report has changed the disputes. `disputes` contains all disputes after the change.
 * - `same`: the report contains nothing new.
 * - `contradiction`: a callback contradicts a decided dispute. Callbacks arrive in any order, so only an answer to a
 *   query can change a decided dispute. Therefore nodrop must query the channel.
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

/** Describes a dispute to an operator in a sentence. The sentence contains the deadline for the merchant's answer. */
export function describeDispute(dispute: ChannelDispute): string {
  const { id, amount, currency, state, isInquiry, reason, respondBy } = dispute;
  const what = `${isInquiry ? 'Inquiry' : 'Dispute'} ${id} of ${amountText(amount, currency)}${reason === undefined ? '' : ` (${reason})`}`;
  if (state !== 'open') return `${what} is ${state}.`;
  return respondBy === undefined
    ? `${what} is open: answer it at the channel.`
    : `${what} is open: answer it at the channel before ${respondBy}.`;
}
