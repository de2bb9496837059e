import { Stripe } from 'stripe';
import { createStripeAdapter } from '../../../src/channels/stripe/adapter.ts';
import type { Credentials, Trade } from '../../../src/domain/channel.ts';
import type { Dispute, Intent, Session } from '../../doubles/stripe/books.ts';
import { serveStripe } from '../../doubles/stripe/server.ts';
import type { Contract, Party, Place } from '../contract/types.ts';
import { describeContract } from '../contract.ts';
import { CREDENTIALS } from './support.ts';

/** Runs the contract suite against the double. */

/**
 * The number of decimals of each currency, from Stripe's page of currencies. This list is independent of the adapter's
 * list.
 */
const DECIMALS: Readonly<Record<string, number>> = {
  ...Object.fromEntries(
    'bif clp djf gnf jpy kmf krw mga pyg rwf vnd vuv xaf xof xpf'.split(' ').map((code) => [code, 0]),
  ),
  ...Object.fromEntries('bhd jod kwd omr tnd'.split(' ').map((code) => [code, 3])),
};

const inWhole = (amount: number, currency: string) => {
  const decimals = DECIMALS[currency] ?? 2;
  const digits = String(amount).padStart(decimals + 1, '0');
  return decimals === 0 ? digits : `${digits.slice(0, -decimals)}.${digits.slice(-decimals)}`;
};

describeContract('Stripe', async (place: Place): Promise<Contract> => {
  const { url, books, close } = await serveStripe();
  books.webhooks = [{ url: place.callbacksTo, secret: CREDENTIALS.webhook_secret, types: undefined }];
  const adapter = createStripeAdapter({ url: await place.proxyTo(url) });
  const party = (credentials: Credentials): Party => ({
    adapter,
    account: { id: 'acc_1', merchantId: 'm', channel: 'stripe', credentials: [credentials] },
  });

  const targetOf = ({ outTradeNo, reference }: Trade): Session | Intent | undefined =>
    [...books.sessions.values(), ...books.intents.values()].find(
      ({ id, metadata }) => id === reference?.id || metadata.nodrop_payment === outTradeNo,
    );
  const intentOf = (trade: Trade): Intent | undefined => {
    const target = targetOf(trade);
    return target !== undefined && 'intent' in target ? books.intents.get(target.intent ?? '') : target;
  };
  const sentBack = (intent: Intent): number =>
    [...books.refunds.values()]
      .filter((refund) => refund.intent === intent.id && refund.status === 'succeeded')
      .reduce((sum, { amount }) => sum + amount, 0);
  const need = <T>(found: T | undefined): T => {
    if (found === undefined) throw new Error('the object is not at Stripe');
    return found;
  };

  return {
    ours: party(CREDENTIALS),
    theirs: party({ ...CREDENTIALS, secret_key: 'rk_test_double', webhook_secret: 'whsec_theirs' }),
    wrong: party({ ...CREDENTIALS, secret_key: 'sk_test_wrong' }),
    secrets: [CREDENTIALS.secret_key, CREDENTIALS.webhook_secret, 'sk_test_wrong'],
    channel: {
      async books(trade) {
        const sessions = [...books.sessions.values()];
        const all = [...sessions, ...[...books.intents.values()].filter(({ session }) => session === null)];
        const trades = all.filter(({ metadata }) => metadata.nodrop_payment === trade.outTradeNo);
        const [{ amount, currency } = { amount: 0, currency: 'eur' }] = trades;
        const intent = intentOf(trade);
        return {
          trades: trades.length,
          asked: inWhole(amount, currency),
          currency: currency.toUpperCase(),
          refunded: intent === undefined ? '0' : inWhole(sentBack(intent), currency),
        };
      },
      async pay(trade) {
        const intent = intentOf(trade);
        try {
          if (intent?.status === 'processing') books.settle(intent, true);
          else books.pay(need(targetOf(trade)), 'paid');
          return true;
        } catch {
          return false;
        }
      },
      async decline(trade) {
        books.pay(need(targetOf(trade)), 'declined');
      },
      async startProcessing(trade) {
        books.pay(need(targetOf(trade)), 'processing');
      },
      async close(trade) {
        const target = need(targetOf(trade));
        if ('intent' in target) books.expire(target);
        else target.status = 'canceled';
      },
      async refund(trade, amount) {
        books.addRefund(need(intentOf(trade)), amount, {});
      },
      async reverse(_, outRefundNo) {
        const refund = [...books.refunds.values()].find(
          ({ metadata }) => metadata.nodrop_refund === outRefundNo,
        );
        books.changeRefund(need(refund), 'failed', 'expired_or_canceled_card');
      },
      async dispute(trade, state) {
        const intent = need(intentOf(trade));
        const isOpen = (one: Dispute) => one.intent === intent.id && one.status === 'needs_response';
        const dispute = [...books.disputes.values()].find(isOpen);
        if (dispute === undefined || state === 'open')
          books.addDispute(intent, 'needs_response', books.now() + 7 * 86_400);
        else books.changeDispute(dispute, state);
      },
      async sendUnrelated() {
        books.tell('payout.paid', { id: 'po_1', object: 'payout', metadata: {} });
      },
    },
    protocol: {
      refusal: (status, code) => ({
        ...{ status, headers: { 'content-type': 'application/json' } },
        body: JSON.stringify({ error: { type: 'invalid_request_error', code, message: 'No.' } }),
      }),
      listedCodes: {
        createTrade: [
          ...['amount_too_large', 'amount_too_small', 'invalid_charge_amount', 'url_invalid'],
          ...['parameter_invalid_empty', 'parameter_invalid_integer'],
          ...['parameter_invalid_string_blank', 'parameter_invalid_string_empty'],
        ],
        refundTrade: ['amount_too_large', 'charge_already_refunded', 'charge_not_refundable'],
      },
      definite: {
        createTrade: [
          [400, 'amount_too_small'],
          [400, 'url_invalid'],
        ],
      },
      pageSize: 100,
      callbacks: {
        signed: {
          toleranceMs: 300_000,
          sign(rawBody, at) {
            const header = Stripe.webhooks.generateTestHeaderString({
              payload: rawBody.toString('utf8'),
              secret: CREDENTIALS.webhook_secret,
              timestamp: Math.floor(at.getTime() / 1000),
            });
            return { headers: { 'stripe-signature': header }, rawBody };
          },
        },
        isAcknowledged: ({ status }) => status >= 200 && status < 300,
        sendsAgain: false,
      },
    },
    close,
  };
});
