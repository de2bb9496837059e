import { Webhook } from 'standardwebhooks';

/**
 * Defines the signatures of messages and the states of a trade, which the simulator and its adapter share.
 *
 * Every message carries the three headers of Standard Webhooks (https://www.standardwebhooks.com). The signature is an
 * HMAC-SHA256 over `id.timestamp.payload`. The time may differ by five minutes in both directions. The payload is
 * - for a callback: its body, exactly as the standard says;
 * - for a request: `METHOD path\nbody`, so that a signature cannot be moved to another URL or method;
 * - for a response: `status requestId\nbody`, so that a response cannot answer another request.
 *
 * A JSON body starts with `{`, a method with a capital letter and a status with a digit. So a signed message of one
 * kind cannot be used as a message of another kind.
 */

/**
 * The states of a trade in the simulator's own terms. `PAYERROR` means that the payment was declined. This state is
 * final.
 */
export const TRADE_STATES = ['NOTPAY', 'PROCESSING', 'SUCCESS', 'CLOSED', 'REFUND', 'PAYERROR'] as const;
export type TradeState = (typeof TRADE_STATES)[number];

/** The name of the account whose secret signed the request. */
export const ACCOUNT_HEADER = 'simulator-account';

export type SignatureHeaders = Record<'webhook-id' | 'webhook-timestamp' | 'webhook-signature', string>;

/** Returns the text that a request's signature covers. `path` starts with `/v1` and includes the query string. */
export function requestPayload(method: string, path: string, body: string): string {
  return `${method} ${path}\n${body}`;
}

/**
 * Returns the text that a response's signature covers. `requestId` is the `webhook-id` of the request that the response
 * answers.
 */
export function responsePayload(status: number, requestId: string, body: string): string {
  return `${status} ${requestId}\n${body}`;
}

/** Signs `payload` with the current time. */
export function sign(webhook: Webhook, id: string, payload: string): SignatureHeaders {
  const now = new Date();
  return {
    'webhook-id': id,
    'webhook-timestamp': String(Math.floor(now.getTime() / 1000)),
    'webhook-signature': webhook.sign(id, now, payload),
  };
}

/**
 * Maximum number of signatures that nodrop checks in one message. While a sender changes its secret, it signs each
 * message with every valid secret. A genuine sender never needs more signatures than this.
 */
const SIGNATURES_AT_MOST = 10;

/**
 * Checks that the signature headers are present, that the message is not too old, and that a signature matches. Does
 * not parse the payload. Only the first ten signatures are checked, because a header can contain thousands of
 * signatures and each check takes time.
 * @throws Error (the library's WebhookVerificationError) whose message names the failed check
 */
export function verify(webhook: Webhook, payload: string, headers: Readonly<Record<string, unknown>>): void {
  const signed: Record<string, string> = {};
  for (const name of ['webhook-id', 'webhook-timestamp', 'webhook-signature']) {
    const value = headers[name];
    if (typeof value === 'string') signed[name] = value;
  }
  const signatures = signed['webhook-signature'];
  if (signatures !== undefined) {
    signed['webhook-signature'] = signatures.split(' ', SIGNATURES_AT_MOST).join(' ');
  }
  webhook.verify(payload, signed, { jsonParse: false });
}

/** @throws Error if `secret` is not `whsec_` followed by base64 */
export function signer(secret: string): Webhook {
  return new Webhook(secret);
}
