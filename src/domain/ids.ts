import { createHash } from 'node:crypto';
import { ulid } from 'ulid';

/** Every id nodrop makes. */

const suffix = (nth: number): string => (nth === 1 ? '' : nth.toString(36).padStart(3, '0'));

/** Out-trade-no at the channel: at most 32 of `[0-9A-Za-z_]`, which every channel takes. */
export const newPaymentId = (): string => `pay_${ulid()}`;
/** Whether a number has the form of a payment's id, whoever has the payment. */
export const isPaymentId = (text: string): boolean => /^pay_[0-7][0-9A-HJKMNP-TV-Z]{25}$/.test(text);
export const newCallbackId = (): string => `cb_${ulid()}`;
export const newUnverifiedCallbackId = (): string => `uv_${ulid()}`;
export const newMerchantId = (): string => `mer_${ulid()}`;
export const newApiKeyId = (): string => `key_${ulid()}`;
export const newChannelAccountId = (): string => `acc_${ulid()}`;
export const newChannelCredentialsId = (): string => `crd_${ulid()}`;

/**
 * The `nth` refund (from 1) nodrop owes by itself for a payment, whoever records it first: another one only when the
 * channel has refused the one before. `pay_X` gives `re_X`, `X` being the payment's ULID.
 */
export const automaticRefundId = (paymentId: string, nth = 1): string =>
  `re_${paymentId.slice('pay_'.length)}${suffix(nth)}`;
/** True for the id of a refund nodrop owes by itself. */
export const isAutomaticRefundId = (id: string, paymentId: string): boolean =>
  id.startsWith(automaticRefundId(paymentId));
/** What makes a request for a refund the same request. */
export interface RefundRequestKey {
  readonly merchantId: string;
  readonly paymentId: string;
  readonly idempotencyKey: string;
  /** Minor units; `all` when the request named no amount. */
  readonly amount: number | 'all';
}

/**
 * A refund that somebody asks for. Derived from the request alone: when the database has lost the row, the same request
 * has the same number at the channel, which gives the money back once. Changing the derivation breaks that for every
 * refund made before. 112 bits, in a length that no automatic refund's id has.
 */
export function requestedRefundId(request: RefundRequestKey): string {
  const { merchantId, paymentId, idempotencyKey, amount } = request;
  return hashedRefundId([merchantId, paymentId, idempotencyKey, amount]);
}
/** The refund of the rest that replaces a requested one. Derived from its id, so that each is replaced once. */
export const replacementRefundId = (refundId: string): string => hashedRefundId(['rest', refundId]);

/**
 * The refund's number at the channel under its `attempt`th key (from 1): its id, and `{id}_2` once the channel keeps nothing
 * but a failure under that. Within 64 of `[0-9A-Za-z_]`.
 */
export const refundNumber = (refundId: string, attempt: number): string =>
  attempt === 1 ? refundId : `${refundId}_${attempt}`;
const NUMBER = /^(re_[0-9A-Za-z]+)_([2-9]|[1-9]\d{1,3})$/;
/** The id of the refund that has this number. */
export const refundIdOf = (outRefundNo: string): string => NUMBER.exec(outRefundNo)?.[1] ?? outRefundNo;
/** Which key of its refund this number is, counted from 1. */
export const attemptOf = (outRefundNo: string): number => Number(NUMBER.exec(outRefundNo)?.[2] ?? 1);

const hashedRefundId = (content: readonly unknown[]): string =>
  `re_${createHash('sha256').update(JSON.stringify(content)).digest('hex').slice(0, 28)}`;
/**
 * The `nth` refund (from 1) of a payment that somebody else made at the channel; found, not asked for. Whoever
 * finds it records it under the same id.
 */
export const externalRefundId = (paymentId: string, nth = 1): string =>
  `rx_${paymentId.slice('pay_'.length)}${suffix(nth)}`;
/** The `nth` refund (from 1) that records what of a payment went back by disputes that are lost. */
export const disputeRefundId = (paymentId: string, nth = 1): string =>
  `rd_${paymentId.slice('pay_'.length)}${suffix(nth)}`;
/** Also the `webhook-id`. */
export const newEventId = (): string => `evt_${ulid()}`;
export const newDeliveryId = (): string => `dlv_${ulid()}`;
export const newSigningSecretId = (): string => `sec_${ulid()}`;
