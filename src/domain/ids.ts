import { createHash } from 'node:crypto';
import { ulid } from 'ulid';

/** The ids that nodrop generates. */

const suffix = (nth: number): string => (nth === 1 ? '' : nth.toString(36).padStart(3, '0'));

/**
 * Creates a payment's id, which is also the out-trade-no at the channel. It has at most 32 characters of
 * `[0-9A-Za-z_]`, which every channel accepts.
 */
export const newPaymentId = (): string => `pay_${ulid()}`;
/** True if the text has the form of a payment's id, even if no such payment exists. */
export const isPaymentId = (text: string): boolean => /^pay_[0-7][0-9A-HJKMNP-TV-Z]{25}$/.test(text);
export const newCallbackId = (): string => `cb_${ulid()}`;
export const newUnverifiedCallbackId = (): string => `uv_${ulid()}`;
export const newMerchantId = (): string => `mer_${ulid()}`;
export const newApiKeyId = (): string => `key_${ulid()}`;
export const newChannelAccountId = (): string => `acc_${ulid()}`;
export const newChannelCredentialsId = (): string => `crd_${ulid()}`;

/**
 * The id of the `nth` automatic refund of a payment (from 1). The id is derived from the payment's id, so that the
 * refund is recorded only once. nodrop makes a second automatic refund only if the channel has refused the first one.
 * `pay_X` gives `re_X`, where `X` is a ULID.
 */
export const automaticRefundId = (paymentId: string, nth = 1): string =>
  `re_${paymentId.slice('pay_'.length)}${suffix(nth)}`;
/** True if the id is the id of an automatic refund of the payment. */
export const isAutomaticRefundId = (id: string, paymentId: string): boolean =>
  id.startsWith(automaticRefundId(paymentId));
/** The fields that identify a refund request. nodrop treats requests with equal fields as the same request. */
export interface RefundRequestKey {
  readonly merchantId: string;
  readonly paymentId: string;
  readonly idempotencyKey: string;
  /** The amount in minor units. It is `all` if the request named no amount. */
  readonly amount: number | 'all';
}

/**
 * The id of a requested refund, derived from the request alone. If the database loses the row, a repeated request gets
 * the same id and number, so the channel refunds only once. The derivation must never change, because otherwise a
 * repeated request for an existing refund would get another number. The id has 112 bits. It has another length than the
 * ids of automatic refunds.
 */
export function requestedRefundId(request: RefundRequestKey): string {
  const { merchantId, paymentId, idempotencyKey, amount } = request;
  return hashedRefundId([merchantId, paymentId, idempotencyKey, amount]);
}
/**
 * The id of a refund that replaces a requested refund and refunds the remaining amount. It is derived from the id of
 * the requested refund, so that each refund is replaced only once.
 */
export const replacementRefundId = (refundId: string): string => hashedRefundId(['rest', refundId]);

/**
 * The refund's number at the channel, which is also its idempotency key. `attempt` counts the keys from 1: the first
 * key is the refund's id, the second one is `{id}_2`, and so on. nodrop uses the next key if the channel has only a
 * stored failure under the previous key. The number has at most 64 characters of `[0-9A-Za-z_]`.
 */
export const refundNumber = (refundId: string, attempt: number): string =>
  attempt === 1 ? refundId : `${refundId}_${attempt}`;
const NUMBER = /^(re_[0-9A-Za-z]+)_([2-9]|[1-9]\d{1,3})$/;
/** Returns nodrop's id of the refund that has this number at the channel. */
export const refundIdOf = (outRefundNo: string): string => NUMBER.exec(outRefundNo)?.[1] ?? outRefundNo;
/** The position of the key within the keys of its refund, counted from 1. It is part of the refund number. */
export const attemptOf = (outRefundNo: string): number => Number(NUMBER.exec(outRefundNo)?.[2] ?? 1);

const hashedRefundId = (content: readonly unknown[]): string =>
  `re_${createHash('sha256').update(JSON.stringify(content)).digest('hex').slice(0, 28)}`;
/**
 * The id of the `nth` refund (from 1) that was made at the channel without nodrop. It is derived from the payment's id.
 * So every process that finds the refund records it under the same id.
 */
export const externalRefundId = (paymentId: string, nth = 1): string =>
  `rx_${paymentId.slice('pay_'.length)}${suffix(nth)}`;
/** The id of the `nth` recorded refund (from 1) for money that the payment lost in disputes. */
export const disputeRefundId = (paymentId: string, nth = 1): string =>
  `rd_${paymentId.slice('pay_'.length)}${suffix(nth)}`;
/** Creates an event's id. Its deliveries use this id as their `webhook-id`. */
export const newEventId = (): string => `evt_${ulid()}`;
export const newDeliveryId = (): string => `dlv_${ulid()}`;
export const newSigningSecretId = (): string => `sec_${ulid()}`;
