import { ulid } from 'ulid';

/** Every id nodrop makes. */

const suffix = (nth: number): string => (nth === 1 ? '' : nth.toString(36).padStart(3, '0'));

/** Out-trade-no at the channel: at most 32 of `[0-9A-Za-z_]`, which every channel takes. */
export const newPaymentId = (): string => `pay_${ulid()}`;
export const newCallbackId = (): string => `cb_${ulid()}`;
export const newUnverifiedCallbackId = (): string => `uv_${ulid()}`;
export const newMerchantId = (): string => `mer_${ulid()}`;
export const newApiKeyId = (): string => `key_${ulid()}`;
export const newChannelAccountId = (): string => `acc_${ulid()}`;

/**
 * The `nth` refund (from 1) nodrop owes by itself for a payment, whoever records it first: another one only when the
 * channel has refused the one before. `pay_X` gives `re_X`, `X` being the payment's ULID; requested refunds have ULIDs
 * of their own.
 */
export const automaticRefundId = (paymentId: string, nth = 1): string =>
  `re_${paymentId.slice('pay_'.length)}${suffix(nth)}`;
/** True for the id of a refund nodrop owes by itself. */
export const isAutomaticRefundId = (id: string, paymentId: string): boolean =>
  id.startsWith(automaticRefundId(paymentId));
/** A refund that somebody asks for. */
export const newRefundId = (): string => `re_${ulid()}`;
/**
 * The `nth` refund (from 1) of a payment that somebody else made at the channel; found, not asked for. Whoever
 * finds it records it under the same id.
 */
export const externalRefundId = (paymentId: string, nth = 1): string =>
  `rx_${paymentId.slice('pay_'.length)}${suffix(nth)}`;
/** Also the `webhook-id`. */
export const newEventId = (): string => `evt_${ulid()}`;
export const newDeliveryId = (): string => `dlv_${ulid()}`;
export const newSigningSecretId = (): string => `sec_${ulid()}`;
