import { createHmac, timingSafeEqual } from 'node:crypto';
import { z } from 'zod';
import {
  CallbackError,
  type CallbackRequest,
  type CallbackSubject,
  type ChannelAccount,
  ChannelError,
  type VerifiedCallback,
} from '../../domain/channel.ts';
import { modeOf } from './declaration.ts';
import {
  disputeOf,
  disputeSchema,
  intentAnswer,
  intentSchema,
  numberIn,
  PAYMENT_KEY,
  REFUND_KEY,
  refundAnswer,
  refundSchema,
  timeOf,
} from './objects.ts';

/**
 * The largest accepted difference between the time of a callback and this machine's clock, in seconds. Stripe uses the
 * same tolerance (https://docs.stripe.com/webhooks#replay-attacks). nodrop also applies it to times in the future.
 */
const TOLERANCE_S = 300;
/**
 * Maximum number of signatures that nodrop checks in one event. While a secret is being changed, Stripe signs with
 * every valid secret, but never sends more signatures than this.
 */
const SIGNATURES_AT_MOST = 10;

/** https://docs.stripe.com/api/events/object */
const eventSchema = z.object({
  id: z.string(),
  object: z.literal('event'),
  type: z.string(),
  created: z.int().nonnegative(),
  livemode: z.boolean(),
  /** Stripe sets this field on an event of a connected account. */
  account: z.string().nullish(),
  data: z.object({
    object: z.looseObject({ metadata: z.record(z.string(), z.string()).nullish().catch(undefined) }),
    previous_attributes: z.looseObject({ status: z.string().optional().catch(undefined) }).nullish(),
  }),
});
type Event = z.infer<typeof eventSchema>;

const SESSION_EVENTS: ReadonlySet<string> = new Set([
  'checkout.session.completed',
  'checkout.session.async_payment_succeeded',
  'checkout.session.async_payment_failed',
  'checkout.session.expired',
]);
const INTENT_EVENTS: ReadonlySet<string> = new Set([
  'payment_intent.succeeded',
  'payment_intent.processing',
  'payment_intent.payment_failed',
  'payment_intent.canceled',
]);
const REFUND_EVENTS: ReadonlySet<string> = new Set([
  'refund.created',
  'refund.updated',
  'refund.failed',
  'charge.refund.updated',
]);
const DISPUTE_EVENTS: ReadonlySet<string> = new Set([
  'charge.dispute.created',
  'charge.dispute.updated',
  'charge.dispute.closed',
  'charge.dispute.funds_withdrawn',
  'charge.dispute.funds_reinstated',
]);

/** The event types for which the webhook endpoint at Stripe is registered. */
export const EVENT_TYPES: readonly string[] = [
  ...SESSION_EVENTS,
  ...INTENT_EVENTS,
  ...REFUND_EVENTS,
  'charge.refunded',
  ...DISPUTE_EVENTS,
];

/**
 * Implements `verifyCallback` of the port. An event may have a different API version than nodrop's requests. If nodrop
 * cannot read the event, nodrop queries Stripe.
 */
export async function verifyCallback(
  account: ChannelAccount,
  { headers, rawBody }: CallbackRequest,
): Promise<VerifiedCallback> {
  const credentials = verifySignature(account, headers['stripe-signature'], rawBody);
  const parsed = eventSchema.safeParse(parseJson(rawBody));
  if (!parsed.success) {
    // nodrop ignores objects of other kinds, for example the thin events of a version 2 event destination.
    const named = z.object({ id: z.string(), object: z.string() }).safeParse(parseJson(rawBody));
    if (!named.success || named.data.object === 'event') {
      throw new CallbackError('malformed', z.prettifyError(parsed.error));
    }
    return ignored(named.data.id, `a ${named.data.object} is not an event that nodrop reads`);
  }
  const event = parsed.data;
  if (event.livemode !== (modeOf(credentials) === 'live')) {
    return ignored(
      event.id,
      `the event is of ${event.livemode ? 'live' : 'test'} mode, and the account is not`,
    );
  }
  if (typeof event.account === 'string') return ignored(event.id, 'the event is of a connected account');
  try {
    return read(event);
  } catch (error) {
    if (error instanceof ChannelError) throw new CallbackError('malformed', error.message);
    throw error;
  }
}

/**
 * Verifies the signature header `t=SECONDS,v1=HEX,...`, which is an HMAC-SHA256 over `t.body`
 * (https://docs.stripe.com/webhooks#verify-manually).
 * @returns the credentials whose secret signed the event.
 */
function verifySignature(
  { credentials }: ChannelAccount,
  header: string | readonly string[] | undefined,
  rawBody: Buffer,
) {
  if (typeof header !== 'string') throw new CallbackError('unverified', 'Stripe-Signature is missing');
  const parts = header.split(',').map((part) => part.trim().split('=', 2));
  const time = parts.find(([name]) => name === 't')?.[1] ?? '';
  const signatures = parts
    .filter(([name, value]) => name === 'v1' && /^[0-9a-f]{64}$/.test(value ?? ''))
    .slice(0, SIGNATURES_AT_MOST)
    .map(([, value = '']) => Buffer.from(value, 'hex'));
  if (!/^\d{1,12}$/.test(time) || signatures.length === 0) {
    throw new CallbackError('unverified', 'Stripe-Signature has no time or no signature');
  }
  const signer = credentials.find(({ webhook_secret }) => {
    if (webhook_secret === undefined) return false;
    const expected = createHmac('sha256', webhook_secret).update(`${time}.`).update(rawBody).digest();
    return signatures.some((signature) => timingSafeEqual(signature, expected));
  });
  if (signer === undefined)
    throw new CallbackError('unverified', "the signature was made with none of the account's secrets");
  const age = Date.now() / 1000 - Number(time);
  if (Math.abs(age) > TOLERANCE_S) {
    throw new CallbackError(
      'unverified',
      age > 0 ? 'the event is too old' : 'the event is from the future: check the clock',
    );
  }
  return signer;
}

function read(event: Event): VerifiedCallback {
  const { id: notificationId, type } = event;
  if (SESSION_EVENTS.has(type) || INTENT_EVENTS.has(type)) return readTrade(event);
  if (REFUND_EVENTS.has(type)) return readRefund(event);
  if (DISPUTE_EVENTS.has(type)) {
    const dispute = disputeSchema.safeParse(event.data.object);
    if (!dispute.success || typeof dispute.data.payment_intent !== 'string') {
      return ignored(notificationId, 'a dispute without a payment intent');
    }
    const payment = dispute.data.payment_intent;
    return {
      kind: 'dispute',
      notificationId,
      about: { channelPaymentId: payment },
      dispute: disputeOf(dispute.data),
    };
  }
  // A charge has the metadata of its payment intent, so the charge names the payment. But only a query shows which
  // refund was made.
  const outTradeNo = numberIn(event.data.object, PAYMENT_KEY);
  if (type === 'charge.refunded' && outTradeNo !== undefined) {
    return { kind: 'notice', notificationId, about: { outTradeNo }, isProven: true };
  }
  const payment = event.data.object.payment_intent;
  const about =
    type === 'charge.refunded' && typeof payment === 'string' ? { channelPaymentId: payment } : undefined;
  return ignored(notificationId, `${type} is not about a payment of ours`, about);
}

function readTrade(event: Event): VerifiedCallback {
  const { id: notificationId, type, created } = event;
  const { object } = event.data;
  const outTradeNo = numberIn(object, PAYMENT_KEY);
  if (outTradeNo === undefined) {
    const { id } = object;
    const named = typeof id === 'string' && id !== '' ? id : undefined;
    return ignored(
      notificationId,
      `${type} of a payment that nodrop did not create`,
      named === undefined
        ? undefined
        : { reference: named, ...(INTENT_EVENTS.has(type) ? { channelPaymentId: named } : {}) },
    );
  }
  const about: CallbackSubject = {
    outTradeNo,
    ...(typeof object.id === 'string' ? { reference: object.id } : {}),
  };
  if (type === 'payment_intent.succeeded') {
    const intent = intentSchema.safeParse(object);
    if (intent.success && intent.data.status === 'succeeded') {
      const answer = intentAnswer(intent.data);
      if (answer.state === 'paid') {
        return {
          kind: 'trade',
          notificationId,
          // If a Checkout Session created the intent, the trade's reference is the session's id and not the intent's
          // id.
          about: { outTradeNo },
          answer: { ...answer, paidAt: timeOf(created) },
        };
      }
    }
  }
  // Events can arrive in any order, but an expired session stays expired forever. So no query is needed.
  if (type === 'checkout.session.expired') {
    return { kind: 'trade', notificationId, about, answer: { state: 'closed' } };
  }
  // The event of a paid session is only a notice. It contains the total of the session, but only the intent shows how
  // much money was received.
  return { kind: 'notice', notificationId, about: { outTradeNo }, isProven: true };
}

function readRefund(event: Event): VerifiedCallback {
  const { id: notificationId, type } = event;
  const refund = refundSchema.safeParse(event.data.object);
  if (!refund.success || typeof refund.data.payment_intent !== 'string') {
    return ignored(notificationId, `${type} without a payment intent`);
  }
  const payment = refund.data.payment_intent;
  const outTradeNo = numberIn(refund.data, PAYMENT_KEY);
  const outRefundNo = numberIn(refund.data, REFUND_KEY);
  const hadSucceeded = event.data.previous_attributes?.status === 'succeeded';
  return {
    kind: 'refund',
    notificationId,
    about: {
      ...(outTradeNo === undefined ? {} : { outTradeNo }),
      channelPaymentId: payment,
    },
    refund: {
      ...(outRefundNo === undefined ? {} : { outRefundNo }),
      channelRefundId: refund.data.id,
      answer: refundAnswer(refund.data, hadSucceeded),
    },
  };
}

/** The nodrop payment id in an unverified body. */
export function peekOutTradeNo(rawBody: Buffer): string | undefined {
  const parsed = eventSchema.shape.data.safeParse(
    (parseJson(rawBody) as { data?: unknown } | undefined)?.data,
  );
  return parsed.success ? numberIn(parsed.data.object, PAYMENT_KEY) : undefined;
}

/** @param about the trade that the event names, which may be an adopted trade */
const ignored = (notificationId: string, reason: string, about?: CallbackSubject): VerifiedCallback => ({
  kind: 'ignored',
  notificationId,
  reason,
  ...(about === undefined ? {} : { about }),
});

function parseJson(rawBody: Buffer): unknown {
  try {
    return JSON.parse(rawBody.toString('utf8'));
  } catch {
    return undefined;
  }
}
