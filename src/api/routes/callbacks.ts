import { CallbackError, type ChannelAdapter, type VerifiedCallback } from '../../domain/channel.ts';
import { Refusal } from '../../domain/refusal.ts';
import { markDelivered, storeCallback } from '../../ledger/callbacks.ts';
import { takeQueryDue } from '../../ledger/hints.ts';
import { findChannelAccount } from '../../ledger/merchants.ts';
import type { Callback, ChannelAccount } from '../../ledger/rows.ts';
import { recordUnverified } from '../../ledger/unverified.ts';
import { findPayment } from '../../ledger/views.ts';
import { deliverStored } from '../../temporal/deliver-callback.ts';
import { SIGNAL_WITHIN_MS } from '../deadlines.ts';
import type { Api } from '../deps.ts';
import { type Endpoint, type Exchange, endpoint } from '../endpoint/endpoint.ts';
import { clientAddress } from '../http/client-address.ts';
import { z } from '../http/zod.ts';
import { lookUpPayment } from '../payments/visible-payment.ts';

/**
 * Where channels call back: verified in memory, stored, delivered, acknowledged. The acknowledgement depends on
 * the storing alone; what could not be delivered now, the sweep delivers (P4).
 */
export function callbackRoutes(api: Api): Endpoint[] {
  const { db, workflows, channels, metrics, now } = api;

  /** @throws Refusal `not_found` */
  async function findReceiver(channel: string, accountId: string | undefined) {
    const adapter = channels.get(channel);
    const known = adapter !== undefined && (accountId === undefined || /^\w{1,64}$/.test(accountId));
    const account = known ? await findChannelAccount(db, channel, accountId) : null;
    if (adapter === undefined || account === null) {
      throw new Refusal('not_found', `There is no such account at channel ${channel}.`);
    }
    return { adapter, account };
  }

  /** Kept for a person who looks for an attack or a wrong secret. Never fails: it is refused in any case. */
  async function remember(
    account: ChannelAccount,
    address: string,
    body: Buffer,
    reason: string,
    log: Api['log'],
  ) {
    try {
      await recordUnverified(db, { accountId: account.id, address, body, reason }, now());
    } catch (error) {
      log.warn({ err: error }, 'an unverified callback is not on record');
    }
  }

  /** A callback that cannot be read is no news, but the payment it names may have some: one query is due. Never fails. */
  async function makeQueryDue(
    account: ChannelAccount,
    adapter: ChannelAdapter,
    body: Buffer,
    reason: string,
    log: Api['log'],
  ) {
    try {
      const named = adapter.peekOutTradeNo(body);
      const payment = named === undefined ? null : await lookUpPayment(api, named);
      if (payment === null || payment.channelAccountId !== account.id || payment.status === 'succeeded')
        return;
      if (!(await takeQueryDue(db, payment.id, reason, now()))) return;
      await workflows.hint(payment, false, SIGNAL_WITHIN_MS);
    } catch (error) {
      log.warn({ err: error }, 'no query was made due for a callback that was refused');
    }
  }

  /** Tells the workflow that waits for it. Never fails: the row is stored, and what is not delivered the sweep delivers. */
  async function deliver(stored: Callback, log: Api['log']) {
    try {
      const payment = stored.paymentId === null ? null : await findPayment(db, stored.paymentId);
      if (payment === null) return;
      await deliverStored(api, stored, payment, SIGNAL_WITHIN_MS);
      await markDelivered(db, stored.id, now());
    } catch (error) {
      log.warn({ err: error, callbackId: stored.id }, 'a stored callback waits for the sweep');
    }
  }

  async function receive(
    { request, response, body }: Exchange<null, unknown, undefined, Buffer>,
    accountId?: string,
  ) {
    const channel = String(request.params.channel);
    const { adapter, account } = await findReceiver(channel, accountId);
    const log = request.log as Api['log'];
    let callback: VerifiedCallback;
    try {
      callback = adapter.verifyCallback(account, request.headers, body);
    } catch (error) {
      if (!(error instanceof CallbackError)) throw error;
      metrics.countCallback(channel, error.kind);
      log.warn({ channel, kind: error.kind, reason: error.message }, 'callback refused');
      if (error.kind === 'malformed') {
        const reason = 'A signed callback made no sense: the channel is asked.';
        await makeQueryDue(account, adapter, body, reason, log);
        throw new Refusal('callback_malformed', 'Signed, but it makes no sense.', { cause: error });
      }
      const reason = 'A callback could not be verified: the channel is asked.';
      await Promise.all([
        remember(account, clientAddress(request), body, error.message, log),
        makeQueryDue(account, adapter, body, reason, log),
      ]);
      throw new Refusal('callback_unverified', 'The signature is wrong, missing or too old.', {
        cause: error,
      });
    }

    const stored = await storeCallback(db, account.id, callback, body, now()).catch((error: unknown) => {
      metrics.countCallback(channel, 'not_stored');
      throw error;
    });
    const repeated = stored.deliveredAt !== null;
    metrics.countCallback(
      channel,
      repeated ? 'repeated' : stored.paymentId === null ? 'unmatched' : 'stored',
    );
    if (!repeated) await deliver(stored, log);
    response.json({});
  }

  const shared = {
    method: 'post',
    tag: 'Channels and payers',
    auth: 'none',
    body: 'raw',
    answers: {
      200: { description: "Stored for good: the channel's acknowledgement.", schema: z.object({}) },
    },
    refusals: [
      'not_found',
      'callback_unverified',
      'callback_malformed',
      'payload_too_large',
      'too_busy',
      'database_unavailable',
    ],
  } as const;

  return [
    endpoint({
      ...shared,
      path: '/callbacks/{channel}',
      operationId: 'receiveCallback',
      summary: 'A channel calls back',
      description: "For the channel's default account.",
      params: z.object({ channel: z.string() }),
      handle: (exchange) => receive(exchange),
    }),
    endpoint({
      ...shared,
      path: '/callbacks/{channel}/{accountId}',
      operationId: 'receiveAccountCallback',
      summary: 'A channel calls back for one account',
      params: z.object({ channel: z.string(), accountId: z.string() }),
      handle: (exchange) => receive(exchange, exchange.params.accountId),
    }),
  ];
}
