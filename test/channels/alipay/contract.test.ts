import { createSign } from 'node:crypto';
import { afterAll, beforeAll, describe } from 'vitest';
import { createAlipayAdapter } from '../../../src/channels/alipay/adapter.ts';
import type { Credentials, NewTrade, Trade } from '../../../src/domain/channel.ts';
import { type AlipayDouble, oracleFolder, startAlipayDouble } from '../../doubles/alipay/start.ts';
import type { Answer, Sent } from '../contract/http.ts';
import type { Books, Contract, Place } from '../contract/types.ts';
import { describeContract } from '../contract.ts';
import { accountOf, callback, named, OURS, pay, settingsOf, signed, THEIRS } from './support.ts';

/** The name of the field that has the content of an answer. The name depends on the method of the request. */
const answerKey = ({ path }: Sent): string =>
  `${(new URL(path, 'http://x').searchParams.get('method') ?? '').replaceAll('.', '_')}_response`;

/** A request without its signature and timestamp. */
function termsOf({ method, path, body }: Sent): unknown {
  const { searchParams } = new URL(path, 'http://x');
  const { sign: _sign, timestamp: _timestamp, ...params } = Object.fromEntries(searchParams);
  return { method, params, body };
}

describe.skipIf(oracleFolder() === undefined)('Alipay', () => {
  let double: AlipayDouble;
  beforeAll(async () => {
    double = await startAlipayDouble();
  });
  afterAll(() => double?.stop());

  /** All cases share one process of the double. Its books are empty at the start of each case. */
  const setUp = async (place: Place): Promise<Contract> => {
    await double.tell('reset');
    const proxy = await place.proxyTo(double.url);
    const { alipayPrivateKey, strangerKey } = double.keys;
    const party = (changes: Credentials, appId = OURS) => ({
      adapter,
      account: accountOf({ ...settingsOf(double, appId), gateway: `${proxy}/gateway.do`, ...changes }),
    });
    /** The links that payers received, with the proxy's address replaced by the double's own address. */
    const links = new Map<string, string>();
    const bare = createAlipayAdapter();
    const adapter = {
      ...bare,
      async createTrade(...args: Parameters<typeof bare.createTrade>) {
        const made = await bare.createTrade(...args);
        const { url, qr = '' } = made === 'not_renewable' ? {} : made.action;
        const link = (url ?? qr).replace(proxy, double.url);
        if (link !== '') links.set(args[1].outTradeNo, link);
        return made;
      },
    };
    const linkOf = ({ outTradeNo }: Trade) => links.get(outTradeNo) ?? '';
    /** Returns the answer with its content under the key that belongs to the request, and signs the content again. */
    const dress = (answer: Answer, request: Sent): Answer => {
      let whole: Record<string, unknown>;
      try {
        whole = JSON.parse(answer.body) as Record<string, unknown>;
      } catch {
        return answer;
      }
      if (typeof whole !== 'object' || whole === null) return answer;
      const content = Object.entries(whole).find(([name]) => name.endsWith('_response'))?.[1];
      if (content === undefined) return answer;
      const inner = JSON.stringify(content);
      const sign = createSign('RSA-SHA256').update(inner, 'utf8').sign(alipayPrivateKey, 'base64');
      return { ...answer, body: `{"${answerKey(request)}":${inner},"sign":"${sign}"}` };
    };

    return {
      ours: party({}),
      theirs: party({}, THEIRS),
      wrong: party({ private_key: strangerKey }),
      secrets: [settingsOf(double).private_key ?? '', strangerKey],
      channel: {
        books: async (trade) => {
          const books = await double.tell<Omit<Books, 'currency'>>('books', named(trade));
          return { ...books, currency: 'CNY' };
        },
        pay: (trade) => pay(linkOf(trade)),
        open: async (trade) => void (await fetch(linkOf(trade))),
        refund: async (trade, amount) => {
          const yuan = `${Math.trunc(amount / 100)}.${String(amount % 100).padStart(2, '0')}`;
          await double.tell('refund', { ...named(trade), amount: yuan });
        },
        close: async (trade: Trade | NewTrade) => {
          await fetch(linkOf(trade));
          await double.tell('close', named(trade));
        },
      },
      protocol: {
        refusal: (_status, code) => ({
          status: 200,
          headers: { 'content-type': 'text/html;charset=utf-8' },
          body: JSON.stringify({
            error_response: { code: '40004', msg: 'Business Failed', sub_code: code, sub_msg: 'Refused.' },
          }),
        }),
        listedCodes: {
          createTrade: [
            ...['ACQ.INVALID_PARAMETER', 'ACQ.EXIST_FORBIDDEN_WORD', 'ACQ.TOTAL_FEE_EXCEED'],
            ...['ACQ.TRADE_HAS_SUCCESS', 'ACQ.TRADE_HAS_CLOSE'],
          ],
          queryTrade: ['ACQ.TRADE_NOT_EXIST'],
          closeTrade: ['ACQ.TRADE_NOT_EXIST'],
          refundTrade: [],
          queryRefund: ['ACQ.TRADE_NOT_EXIST'],
        },
        // The adapter accepts a refusal of a refund only if a query does not find the refund: see adapter.test.ts.
        definite: {},
        rateLimit: () => ({
          status: 200,
          headers: { 'content-type': 'text/html;charset=utf-8' },
          body: JSON.stringify({
            error_response: { code: '40005', msg: 'Call Limited', sub_code: 'isv.app-call-limited' },
          }),
        }),
        tellsDelay: false,
        dress,
        terms: termsOf,
        createsWithoutRequest: true,
        callbacks: {
          signed: {
            sign(rawBody) {
              const {
                sign: _sign,
                sign_type: _type,
                ...params
              } = Object.fromEntries(new URLSearchParams(rawBody.toString('utf8')));
              return callback(signed(params, alipayPrivateKey));
            },
            toleranceMs: null,
          },
          isAcknowledged: ({ status, body }) => status === 200 && body === 'success',
          sendsAgain: true,
        },
      },
      close() {},
    };
  };

  describeContract('Alipay', setUp);
});
