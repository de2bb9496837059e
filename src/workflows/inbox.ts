import type { CallbackNotice } from '../domain/payment.ts';

/** The messages that a payment's workflow receives, and the sequence in which the workflow handles them. */

export type Message =
  | { readonly kind: 'callback'; readonly notice: CallbackNotice | undefined }
  | { readonly kind: 'hint'; readonly tight: boolean }
  | { readonly kind: 'notice' }
  | { readonly kind: 'cancel'; readonly by: string }
  | { readonly kind: 'wake' }
  | { readonly kind: 'renewAction'; readonly until: number; done: boolean }
  | { readonly kind: 'ask'; answered: boolean | undefined };

/** Messages that may report money come first. Messages whose handling waits for a channel come last. */
const MESSAGE_ORDER: readonly Message['kind'][] = [
  'callback',
  'wake',
  'hint',
  'notice',
  'cancel',
  'ask',
  'renewAction',
];

export function isBefore(one: Message['kind'], other: Message['kind']): boolean {
  return MESSAGE_ORDER.indexOf(one) < MESSAGE_ORDER.indexOf(other);
}

/**
 * False if the message has no effect on a settled payment. Hints, and callbacks that report no refund, do not affect a
 * settled payment. Therefore these messages do not interrupt a delivery attempt.
 */
export function concernsSettledPayment(message: Message): boolean {
  if (message.kind === 'callback') return message.notice?.refundedAmount !== undefined;
  return message.kind !== 'hint';
}
