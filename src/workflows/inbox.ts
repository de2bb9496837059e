import type { CallbackNotice } from '../domain/payment.ts';

/** What a payment's workflow can be told, and which message is handled before which. */

export type Message =
  | { readonly kind: 'callback'; readonly notice: CallbackNotice | undefined }
  | { readonly kind: 'hint'; readonly tight: boolean }
  | { readonly kind: 'notice' }
  | { readonly kind: 'cancel'; readonly by: string }
  | { readonly kind: 'wake' }
  | { readonly kind: 'renewAction'; readonly until: number; done: boolean }
  | { readonly kind: 'ask'; answered: boolean | undefined };

/** The order in which messages are handled: those that may bring money first, those that wait for a channel last. */
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

/** A callback's repetition and the payer's hint change nothing any more; a call under way is not called off for them. */
export function concernsSettledPayment(message: Message): boolean {
  if (message.kind === 'callback') return message.notice?.refundedAmount !== undefined;
  return message.kind !== 'hint';
}
