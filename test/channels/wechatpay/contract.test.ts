import { createSign, randomBytes } from 'node:crypto';
import { afterAll, beforeAll, describe, vi } from 'vitest';
import { toDecimal } from '../../../src/domain/money.ts';
import { oracleFolder, startWechatpayDouble, type WechatpayDouble } from '../../doubles/wechatpay/start.ts';
import type { Contract, Place } from '../contract/types.ts';
import { describeContract } from '../contract.ts';
import { accountOf, newAdapter } from './support.ts';

const folder = oracleFolder();
let double: WechatpayDouble;
beforeAll(async () => {
  if (folder !== undefined) double = await startWechatpayDouble(folder);
});
afterAll(async () => await double?.stop());

const json = { 'content-type': 'application/json' };
const BECOME = { good: 'SUCCESS', needs_person: 'ABNORMAL', ask_again: 'CLOSED' } as const;

/**
 * Returns a part of a PEM key that identifies the key. The part has no characters that have a meaning in a regular
 * expression.
 */
const partOf = (pem: string): string => /[0-9A-Za-z]{20,}/.exec(pem)?.[0] ?? pem;

const setUp =
  (which: 'direct' | 'modern' | 'provider') =>
  async (place: Place): Promise<Contract> => {
    const base_url = await place.proxyTo(double.url);
    const party = (changes: Readonly<Record<string, string>>) => {
      const adapter = newAdapter();
      // The case does not wait until the double has run the command `advance`, so the next close waits for it.
      const closeTrade: typeof adapter.closeTrade = async (...args) => {
        await doing;
        return await adapter.closeTrade(...args);
      };
      return { adapter: { ...adapter, closeTrade }, account: accountOf({ ...changes, base_url }) };
    };
    const ours = double.accounts[which];
    const { mchid = '', private_key = '', api_v3_key = '' } = ours;
    const rules = { refundsBecome: 'SUCCESS', clockOffsetMs: 0, callbacks: 'sent' } as const;
    await double.tell('rules', rules);
    // Completes the refunds that an earlier case left in process, so that they cause no callbacks during this case.
    await double.tell('finishRefunds', {});
    await double.tell('refundNotifyUrl', { mchid, url: place.callbacksTo });
    // The double runs commands in the order in which they are sent. A case that uses a command's result waits for it.
    let doing: Promise<unknown> = Promise.resolve();
    const then = (work: () => Promise<unknown>) => {
      doing = doing.then(work);
    };
    const told: WechatpayDouble['tell'] = async (command, given) => {
      await doing;
      return await double.tell(command, given);
    };
    const signer = double.signers[which === 'modern' ? 'publicKey' : 'certificate'];
    const signWith = (body: string) => {
      const [timestamp, nonce] = [String(Math.floor(Date.now() / 1000)), randomBytes(8).toString('hex')];
      const signature = createSign('RSA-SHA256')
        .update(`${timestamp}\n${nonce}\n${body}\n`)
        .sign(signer.privateKey, 'base64');
      return {
        'wechatpay-timestamp': timestamp,
        'wechatpay-nonce': nonce,
        'wechatpay-serial': signer.serial,
        'wechatpay-signature': signature,
      };
    };
    const setState = (state: string) => async (trade: { readonly outTradeNo: string }) =>
      void (await told('setState', { outTradeNo: trade.outTradeNo, state }));

    const mine = party(ours);
    // Fetches the certificates now, so that no later call has to send this request.
    await mine.adapter.checkAccount(mine.account);

    return {
      ours: mine,
      theirs: party(double.accounts.other),
      wrong: party({ ...ours, private_key: double.accounts.stranger.private_key ?? '' }),
      secrets: [partOf(private_key), api_v3_key],
      channel: {
        async books({ outTradeNo }) {
          const books = (await told('books', { outTradeNo })) as {
            readonly trades: number;
            readonly total?: number;
            readonly currency?: string;
            readonly refunded: number;
          };
          const { trades, total = 0, currency = 'CNY', refunded } = books;
          return {
            trades,
            asked: toDecimal(total, currency),
            currency,
            refunded: toDecimal(refunded, currency),
          };
        },
        pay: async ({ outTradeNo }) => (await told('pay', { outTradeNo })) === true,
        // A failed payment at WeChat Pay does not change the order.
        decline: setState('NOTPAY'),
        startProcessing: setState('USERPAYING'),
        close: setState('CLOSED'),
        refund: async ({ outTradeNo }, amount) =>
          void (await told('refundAtPlatform', { outTradeNo, amount })),
        finishRefunds: async () => void (await told('finishRefunds', {})),
        refundsBecome(outcome) {
          if (outcome === 'failed') return false;
          then(() => double.tell('rules', { refundsBecome: BECOME[outcome] }));
          return true;
        },
        advance(ms) {
          const now = Date.now() + ms;
          vi.useFakeTimers({ toFake: ['Date'], now });
          then(() => double.tell('rules', { clockOffsetMs: ms }));
        },
        sendUnrelated: async () => void (await told('sendUnrelated', { mchid, url: place.callbacksTo })),
      },
      protocol: {
        refusal: (status, code) => ({
          status,
          headers: json,
          body: JSON.stringify({ code, message: 'Refused.' }),
        }),
        listedCodes: {
          createTrade: ['PARAM_ERROR', 'ORDERPAID', 'ORDER_CLOSED', 'ORDERCLOSED'],
          queryTrade: ['ORDER_NOT_EXIST', 'ORDERNOTEXIST'],
          closeTrade: ['ORDER_NOT_EXIST', 'ORDERNOTEXIST'],
          refundTrade: ['PARAM_ERROR', 'USER_ACCOUNT_ABNORMAL', 'RESOURCE_NOT_EXISTS'],
          queryRefund: ['RESOURCE_NOT_EXISTS'],
        },
        definite: {
          createTrade: [[400, 'PARAM_ERROR']],
          refundTrade: [
            [400, 'PARAM_ERROR'],
            [403, 'USER_ACCOUNT_ABNORMAL'],
          ],
        },
        dress: (answer) => ({ ...answer, headers: { ...answer.headers, ...signWith(answer.body) } }),
        callbacks: {
          signed: {
            toleranceMs: 300_000,
            async sign(rawBody, at) {
              const body = rawBody.toString('utf8');
              const headers = await double.tell('sign', { mchid, body, atMs: at.getTime() });
              return { rawBody, headers: headers as Record<string, string> };
            },
          },
          isAcknowledged: ({ status }) => status === 200 || status === 204,
          sendsAgain: true,
        },
      },
      async close() {
        vi.useRealTimers();
        await doing;
        await double.tell('refundNotifyUrl', { mchid, url: null });
      },
    };
  };

describe.skipIf(folder === undefined)('WeChat Pay', () => {
  describeContract('WeChat Pay with platform certificates', setUp('direct'));
  describeContract('WeChat Pay in public-key mode', setUp('modern'));
  describeContract('WeChat Pay for a service provider', setUp('provider'));
});
