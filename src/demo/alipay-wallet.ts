import { createSign, generateKeyPairSync, type KeyObject } from 'node:crypto';
import { request } from './client.ts';
import { Double } from './double.ts';
import type { DoubledWallet } from './doubled-wallet.ts';
import type { Payer } from './payers.ts';
import { type RequestFault, requestFaults } from './trouble.ts';
import type { Bought, Pressed } from './wallets.ts';

/** The first line that the double prints. */
interface Hello {
  readonly url: string;
  readonly keys: {
    readonly alipayPublicKey: string;
    readonly apps: Readonly<Record<string, { readonly privateKey: string }>>;
  };
  /** The id of the seller that each application belongs to. */
  readonly sellers: Readonly<Record<string, string>>;
}

const FORM = { 'content-type': 'application/x-www-form-urlencoded; charset=utf-8' };

/**
 * The API methods that can fail. nodrop makes a payment link without a request. So the only create request that can
 * fail is `precreate`, which makes a QR code.
 */
const METHODS: Readonly<Record<RequestFault['of'], string>> = {
  create: 'alipay.trade.precreate',
  query: 'alipay.trade.query',
  close: 'alipay.trade.close',
  refund: 'alipay.trade.refund',
};
const KINDS = { error: 'error', nonsense: 'nonsense', silent: 'accepted' } as const;

/** The error on the payer's page when the trade can no longer be paid. */
const TOO_LATE = 'ACQ.TRADE_HAS_CLOSE';
/** The error on the payer's page when the trade is already paid. */
const PAID_BEFORE = 'ACQ.TRADE_HAS_SUCCESS';

/**
 * Starts the double of Alipay, where a payment link creates the trade when its payer opens the page.
 * @see Double.start for the parameters
 */
export async function startAlipayWallet(
  ...[library, logs, onEnd, signal]: readonly [string, string, (sentence: string) => void, AbortSignal]
): Promise<DoubledWallet> {
  const double = await Double.start<Hello>('alipay', library, logs, onEnd, signal);
  const { url, keys, sellers } = double.hello;
  const [[appId, seller] = ['', '']] = Object.entries(sellers);
  const stranger = generateKeyPairSync('rsa', { modulusLength: 2048 }).privateKey;

  /** The parameters of a forged notification. It claims that an unpaid payment was paid. */
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

    // The double needs no configured callback address, because each payment request contains the address.
    register: async () => {},

    async pay({ id, nextAction }: Bought, isDeclined: boolean): Promise<Pressed> {
      const link = nextAction?.url ?? nextAction?.qr ?? '';
      // A payer who is declined only opens the page. Opening the page creates the trade.
      const { status, body } = await request(signal, isDeclined ? 'GET' : 'POST', link);
      if (status === 200) return isDeclined ? 'not paid' : 'paid';
      const page = String(body);
      if (page.includes(PAID_BEFORE)) return 'paid';
      if (page.includes(TOO_LATE)) return 'too late';
      throw new Error(`the page of ${id} was answered ${status}: ${page}`);
    },

    ledger: (ending) => double.control('ledger', {}, ending),

    async forge(payer: Payer, paymentId: string) {
      const params = paramsOf(payer, paymentId);
      const own = paramsOf(payer, `pay_${'0'.repeat(26)}`);
      const genuine = await double.control<{ body: string }>('sign', { params: own });
      return [
        new URLSearchParams(params).toString(),
        new URLSearchParams({ ...params, sign_type: 'RSA2', sign: signed(params, stranger) }).toString(),
        // Takes a genuine notification about the forger's own payment, and replaces the payment id in it.
        genuine.body.replaceAll(own.out_trade_no ?? '', paymentId),
      ].map((body) => ({ headers: FORM, body }));
    },

    async withOtherAmount(paymentId: string) {
      const changes = { total_amount: '0.01' };
      const { body } = await double.control<{ body: string }>('notification', {
        ...{ appId, outTradeNo: paymentId, changes },
      });
      return { headers: FORM, body };
    },

    async tick(second: number): Promise<void> {
      const faults = requestFaults(second).map(({ of, how }) => ({ of: METHODS[of], kind: KINDS[how] }));
      await double.control('faults', faults);
    },

    stop: () => double.stop(),
  };
}

const BEIJING_AHEAD_MS = 8 * 3_600_000;
const beijing = (at: number): string =>
  new Date(at + BEIJING_AHEAD_MS).toISOString().slice(0, 19).replace('T', ' ');

/** Signs the sorted parameters as Alipay does, without URL-encoding them. */
const signed = (params: Readonly<Record<string, string>>, key: KeyObject): string =>
  createSign('RSA-SHA256')
    .update(
      Object.entries(params)
        .sort(([a], [b]) => (a < b ? -1 : 1))
        .map(([name, value]) => `${name}=${value}`)
        .join('&'),
    )
    .sign(key, 'base64');
