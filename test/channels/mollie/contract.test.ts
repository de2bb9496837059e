import { afterAll, beforeAll } from 'vitest';
import type { ChannelAdapter, Credentials, Trade } from '../../../src/domain/channel.ts';
import { inWhole } from '../../doubles/mollie/books.ts';
import { type MollieDouble, startMollieDouble } from '../../doubles/mollie/start.ts';
import type { Contract, Party, Place } from '../contract/types.ts';
import { describeContract } from '../contract.ts';
import { accountOf, adapterAt, CREDENTIALS, stateOf, THEIRS } from './support.ts';

/** Runs the contract suite against the double, which runs in its own process. */

let double: MollieDouble;
beforeAll(async () => {
  double = await startMollieDouble();
});
afterAll(async () => await double?.stop());

const WRONG = { api_key: 'test_wrongWrongWrongWrongWrong' };
const BECOMES = { good: 'refunded', needs_person: 'queued', failed: 'failed' } as const;

describeContract('Mollie', async (place: Place): Promise<Contract> => {
  await double.tell('reset', {});
  let offsetMs = 0;
  // Resolves when the double has applied the settings of the case. The next refund waits for this, because the case
  // itself does not.
  let saying: Promise<unknown> = Promise.resolve();
  const direct = adapterAt(await place.proxyTo(double.url));
  const adapter: ChannelAdapter = {
    ...direct,
    async refundTrade(...asked) {
      await saying;
      return await direct.refundTrade(...asked);
    },
  };
  const party = (credentials: Credentials): Party => ({ adapter, account: accountOf(credentials) });

  const find = async ({ outTradeNo, reference }: Trade) => {
    const { payments, refunds, chargebacks } = await stateOf(double);
    const ours = payments.filter(({ metadata }) => metadata?.nodrop_payment === outTradeNo);
    const payment = ours.find(({ id }) => id === reference?.id) ?? ours[0];
    if (payment === undefined) throw new Error('the payment is not at Mollie');
    return {
      ...{ payment, count: ours.length },
      refunds: refunds.filter((refund) => refund.payment === payment.id),
      chargebacks: chargebacks.filter((chargeback) => chargeback.payment === payment.id),
    };
  };
  const become = async (trade: Trade, status: 'paid' | 'failed' | 'pending' | 'canceled') =>
    await double.tell('become', { payment: (await find(trade)).payment.id, status });

  return {
    ours: party(CREDENTIALS),
    theirs: party(THEIRS),
    wrong: party(WRONG),
    secrets: [CREDENTIALS.api_key, THEIRS.api_key, WRONG.api_key],
    channel: {
      async books(trade) {
        const found = await find(trade).catch(() => undefined);
        if (found === undefined) return { trades: 0, asked: '0', currency: 'EUR', refunded: '0' };
        const { currency, amount } = found.payment;
        const back = found.refunds
          .filter(({ status }) => status !== 'failed' && status !== 'canceled' && status !== 'queued')
          .reduce((sum, refund) => sum + refund.amount, 0);
        const [asked, refunded] = [inWhole(amount, currency), inWhole(back, currency)];
        return { trades: found.count, asked, currency, refunded };
      },
      pay: (trade) =>
        become(trade, 'paid').then(
          () => true,
          () => false,
        ),
      async decline(trade) {
        await become(trade, 'failed');
      },
      async startProcessing(trade) {
        await become(trade, 'pending');
      },
      async close(trade) {
        await become(trade, 'canceled');
      },
      async refund(trade, amount) {
        await double.tell('dashboardRefund', { payment: (await find(trade)).payment.id, amount });
      },
      async finishRefunds() {
        await saying;
        await double.tell('finishRefunds', {});
      },
      refundsBecome(outcome) {
        if (outcome === 'ask_again') return false;
        saying = double.tell('refundPlan', { becomes: BECOMES[outcome] });
        return true;
      },
      disputesBegin: 'lost',
      async dispute(trade, state) {
        const { payment, chargebacks } = await find(trade);
        if (state === 'open') await double.tell('chargeback', { payment: payment.id });
        if (state === 'won') await double.tell('reverse', { chargeback: chargebacks[0]?.id ?? '' });
      },
      async advance(ms) {
        offsetMs += ms;
        await double.tell('clock', { offsetMs });
      },
    },
    protocol: {
      refusal: (status, code) => ({
        ...{ status, headers: { 'content-type': 'application/hal+json' } },
        body: JSON.stringify({ status, title: 'Refused', detail: 'No.', field: code }),
      }),
      listedCodes: {
        createTrade: [
          ...['amount', 'amount.currency', 'amount.value', 'description', 'method'],
          ...['redirectUrl', 'webhookUrl'],
        ],
        refundTrade: ['amount', 'amount.currency', 'amount.value'],
      },
      definite: {
        createTrade: [
          [422, 'amount'],
          [422, 'method'],
        ],
        refundTrade: [
          [422, 'amount'],
          [422, 'amount.value'],
        ],
      },
      terms: ({ method, path, headers, body }) => ({ method, path, key: headers['idempotency-key'], body }),
      pageSize: 250,
      callbacks: { isAcknowledged: ({ status }) => status === 200, sendsAgain: true },
    },
    close: () => {},
  };
});
