import { createSign, generateKeyPairSync, type KeyObject } from 'node:crypto';
import { request } from './client.ts';
import { Double } from './double.ts';
import type { DoubledWallet } from './doubled-wallet.ts';
import type { Payer } from './payers.ts';
import { type RequestFault, requestFaults } from './trouble.ts';
import type { Bought, Pressed } from './wallets.ts';

/** The first line of the double. */
interface Hello {
  readonly url: string;
  readonly keys: {
    readonly alipayPublicKey: string;
    readonly apps: Readonly<Record<string, { readonly privateKey: string }>>;
  };
  /** The seller of each application. */
  readonly sellers: Readonly<Record<string, string>>;
}

const FORM = { 'content-type': 'application/x-www-form-urlencoded; charset=utf-8' };

/** A link is no request: what is made at Alipay is a code. */
const METHODS: Readonly<Record<RequestFault['of'], string>> = {
  create: 'alipay.trade.precreate',
  query: 'alipay.trade.query',
  close: 'alipay.trade.close',
  refund: 'alipay.trade.refund',
};
const KINDS = { error: 'error', nonsense: 'nonsense', silent: 'accepted' } as const;

/** What the page of a payer says when it is not paid any more. */
const TOO_LATE = 'ACQ.TRADE_HAS_CLOSE';
/** The request was repeated. */
const PAID_BEFORE = 'ACQ.TRADE_HAS_SUCCESS';

/** Alipay's double: a link makes the trade when its payer opens it. @see Double.start for the parameters */
export async function startAlipayWallet(
  ...[library, logs, onEnd, signal]: readonly [string, string, (sentence: string) => void, AbortSignal]
): Promise<DoubledWallet> {
  const double = await Double.start<Hello>('alipay', library, logs, onEnd, signal);
  const { url, keys, sellers } = double.hello;
  const [[appId, seller] = ['', '']] = Object.entries(sellers);
  const stranger = generateKeyPairSync('rsa', { modulusLength: 2048 }).privateKey;

  /** What a notification says of a payment that nobody paid. */
  const paramsOf = ({ amount, orderId }: Payer, paymentId: string): Record<string, string> => {
    const now = beijing(Date.now());
    const yuan = (amount / 100).toFixed(2);
    return {
      ...{ app_id: appId, auth_app_id: appId, charset: 'utf-8', version: '1.0', seller_id: seller },
      ...{ notify_id: `forged_${paymentId}`, notify_type: 'trade_status_sync', notify_time: now },
      ...{ out_trade_no: paymentId, trade_no: `2026${orderId}`, trade_status: 'TRADE_SUCCESS' },
      ...{ total_amount: yuan, buyer_pay_amount: yuan, gmt_create: now, gmt_payment: now },
    };
  };

  return {
    channel: 'alipay',
    settings: {
      app_id: appId,
      seller_id: seller,
      private_key: keys.apps[appId]?.privateKey ?? '',
      alipay_public_key: keys.alipayPublicKey,
      gateway: `${url}/gateway.do`,
    },

    // Each payment gives the account's address.
    register: async () => {},

    async pay({ id, nextAction }: Bought, isDeclined: boolean): Promise<Pressed> {
      const link = nextAction?.url ?? nextAction?.qr ?? '';
      // Whoever is declined has opened the page, and so made the trade.
      const { status, body } = await request(signal, isDeclined ? 'GET' : 'POST', link);
      if (status === 200) return isDeclined ? 'not paid' : 'paid';
      const page = String(body);
      if (page.includes(PAID_BEFORE)) return 'paid';
      if (page.includes(TOO_LATE)) return 'too late';
      throw new Error(`the page of ${id} was answered ${status}: ${page}`);
    },

    ledger: (ending) => double.tell('ledger', {}, ending),

    async forge(payer: Payer, paymentId: string) {
      const params = paramsOf(payer, paymentId);
      const own = paramsOf(payer, `pay_${'0'.repeat(26)}`);
      const genuine = await double.tell<{ body: string }>('sign', { params: own });
      return [
        new URLSearchParams(params).toString(),
        new URLSearchParams({ ...params, sign_type: 'RSA2', sign: signed(params, stranger) }).toString(),
        // A genuine one of the forger's own payment, with the number of another put into it.
        genuine.body.replaceAll(own.out_trade_no ?? '', paymentId),
      ].map((body) => ({ headers: FORM, body }));
    },

    async withOtherAmount(paymentId: string) {
      const changes = { total_amount: '0.01' };
      const { body } = await double.tell<{ body: string }>('notification', {
        ...{ appId, outTradeNo: paymentId, changes },
      });
      return { headers: FORM, body };
    },

    async tick(second: number): Promise<void> {
      const faults = requestFaults(second).map(({ of, how }) => ({ of: METHODS[of], kind: KINDS[how] }));
      await double.tell('faults', faults);
    },

    stop: () => double.stop(),
  };
}

const BEIJING_AHEAD_MS = 8 * 3_600_000;
const beijing = (at: number): string =>
  new Date(at + BEIJING_AHEAD_MS).toISOString().slice(0, 19).replace('T', ' ');

/** As Alipay signs: the parameters in order, without their escapes. */
const signed = (params: Readonly<Record<string, string>>, key: KeyObject): string =>
  createSign('RSA-SHA256')
    .update(
      Object.entries(params)
        .sort(([a], [b]) => (a < b ? -1 : 1))
        .map(([name, value]) => `${name}=${value}`)
        .join('&'),
    )
    .sign(key, 'base64');
