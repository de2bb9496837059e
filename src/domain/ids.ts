import { ulid } from 'ulid';

/** Every id nodrop makes. */

/** Out-trade-no at the channel: at most 32 of `[0-9A-Za-z_]`, which every channel takes. */
export const newPaymentId = (): string => `pay_${ulid()}`;
export const newCallbackId = (): string => `cb_${ulid()}`;
export const newUnverifiedCallbackId = (): string => `uv_${ulid()}`;
export const newMerchantId = (): string => `mer_${ulid()}`;
export const newApiKeyId = (): string => `key_${ulid()}`;
export const newChannelAccountId = (): string => `acc_${ulid()}`;

/**
 * The refund nodrop owes by itself for a payment: one a payment, whoever records it first.
 * `pay_X` gives `re_X`, `X` being the payment's ULID; requested refunds have ULIDs of their own.
 */
export const automaticRefundId = (paymentId: string): string => `re_${paymentId.slice('pay_'.length)}`;
/** A refund made at the channel by somebody else; found, not asked for. */
export const externalRefundId = (paymentId: string): string => `rx_${paymentId.slice('pay_'.length)}`;
