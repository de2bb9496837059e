import { createSign, generateKeyPairSync, randomBytes, randomUUID } from 'node:crypto';
import type { Callback } from './callback-proxy.ts';
import { Double } from './double.ts';
import type { DoubledWallet } from './doubled-wallet.ts';
import type { Payer } from './payers.ts';
import { type RequestFault, requestFaults } from './trouble.ts';
import type { Bought, Pressed } from './wallets.ts';

/** The first line that the double prints. */
interface Hello {
  readonly url: string;
  /** The account settings of the double's merchants. */
  readonly accounts: { readonly direct: Readonly<Record<string, string>> };
  readonly signers: { readonly certificate: { readonly serial: string } };
}

const REQUESTS: Readonly<Record<RequestFault['of'], string>> = {
  create: 'POST /v3/pay/transactions/native',
  query: 'GET /v3/pay/transactions/out-trade-no/',
  close: '/close',
  refund: 'POST /v3/refund/',
};
const KINDS = { error: 'status', nonsense: 'nonsense', silent: 'acts, then silent' } as const;

const JSON_BODY = { 'content-type': 'application/json' };

/** Starts the double of WeChat Pay, whose payers scan QR codes. @see Double.start for the parameters */
export async function startWechatpayWallet(
  ...[library, logs, onEnd, signal]: readonly [string, string, (sentence: string) => void, AbortSignal]
): Promise<DoubledWallet> {
  const double = await Double.start<Hello>('wechatpay', library, logs, onEnd, signal);
  const { accounts, signers } = double.hello;
  const { mchid = '' } = accounts.direct;
  const stranger = generateKeyPairSync('rsa', { modulusLength: 2048 }).privateKey;

  return {
    channel: 'wechatpay',
    settings: accounts.direct,

    // Sets the callback address for refunds, because a merchant configures it at the merchant platform. No request
    // contains this address.
    async register(callbackUrl: string): Promise<void> {
      await double.control('refundNotifyUrl', { mchid, url: callbackUrl });
    },

    async pay({ id }: Bought, isDeclined: boolean): Promise<Pressed> {
      // The trade stays open after the channel has declined the payer.
      if (isDeclined) return 'not paid';
      const isPaid = await double.control<boolean>('pay', { outTradeNo: id });
      if (isPaid) return 'paid';
      const ledger = await double.control<{ outTradeNo: string; paidAt: string | null }[]>('ledger');
      // The trade is already paid if an earlier request has paid it and only the answer was lost.
      return ledger.find(({ outTradeNo }) => outTradeNo === id)?.paidAt == null ? 'too late' : 'paid';
    },

    ledger: (ending) => double.control('ledger', {}, ending),

    async forge(_payer: Payer, paymentId: string): Promise<readonly Callback[]> {
      const body = eventOf(paymentId);
      const [timestamp, nonce] = [String(Math.floor(Date.now() / 1000)), randomBytes(16).toString('hex')];
      const signature = createSign('RSA-SHA256')
        .update(`${timestamp}\n${nonce}\n${body}\n`)
        .sign(stranger, 'base64');
      const genuine = await double.control<Record<string, string>>('sign', {
        ...{ mchid, body: eventOf(`pay_${'0'.repeat(26)}`), atMs: Date.now() },
      });
      return [
        { headers: JSON_BODY, body },
        {
          headers: {
            ...JSON_BODY,
            'wechatpay-timestamp': timestamp,
            'wechatpay-nonce': nonce,
            'wechatpay-serial': signers.certificate.serial,
            'wechatpay-signature-type': 'WECHATPAY2-SHA256-RSA2048',
            'wechatpay-signature': signature,
          },
          body,
        },
        // Keeps the signature of a genuine callback, but replaces the body by one about another payment.
        { headers: { ...JSON_BODY, ...genuine }, body },
      ];
    },

    async withOtherAmount(paymentId: string): Promise<Callback> {
      const amount = { total: 1, payer_total: 1, currency: 'CNY', payer_currency: 'CNY' };
      return await double.control<Callback>('callback', { outTradeNo: paymentId, content: { amount } });
    },

    async tick(second: number): Promise<void> {
      const faults = requestFaults(second).map(({ of, how }) => ({ to: REQUESTS[of], kind: KINDS[how] }));
      await double.control('faults', { faults });
      await double.control('finishRefunds');
    },

    stop: () => double.stop(),
  };
}

/** A callback body in WeChat Pay's format, with random bytes instead of encrypted content. */
const eventOf = (paymentId: string): string =>
  JSON.stringify({
    id: randomUUID(),
    create_time: new Date().toISOString(),
    event_type: 'TRANSACTION.SUCCESS',
    resource_type: 'encrypt-resource',
    summary: paymentId,
    resource: {
      original_type: 'transaction',
      algorithm: 'AEAD_AES_256_GCM',
      ciphertext: randomBytes(200).toString('base64'),
      nonce: randomBytes(6).toString('hex'),
      associated_data: 'transaction',
    },
  });
