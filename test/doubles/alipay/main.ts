// node --import tsx test/doubles/alipay/main.ts FOLDER
//
// An Alipay double for tests. It is a process with its own books and keys. python-alipay-sdk in FOLDER makes its
// signatures. Commands at /_control act as a payer or as the merchant on the platform, or inject faults. The double
// prints its address and keys once it listens, and ends when its standard input ends.
import { createServer, type IncomingMessage } from 'node:http';
import type { AddressInfo } from 'node:net';
import { type BookedTrade, Books, Refused, type Terms } from './books.ts';
import { Gateway, type Request } from './gateway.ts';
import { toYuan } from './money.ts';
import { Notifier } from './notifier.ts';
import { startOracle } from './oracle.ts';
import { APPS, type Fault } from './protocol.ts';

const oracle = startOracle(process.argv[2] ?? '');
const keys = await oracle.setup(Object.keys(APPS));
const books = new Books();
const gateway = new Gateway(books, oracle, keys);
const notifier = new Notifier(books, oracle, APPS);
let faults: Fault[] = [];
const seen: { method: string; params: Record<string, string> }[] = [];

gateway.onRefund = (trade, no) => void notifier.tell(trade, no);

interface Answer {
  readonly status: number;
  readonly type: string;
  readonly body: string;
}
const json = (value: unknown, status = 200): Answer => ({
  status,
  type: 'application/json;charset=utf-8',
  body: JSON.stringify(value),
});
const html = (body: string, status = 200): Answer => ({ status, type: 'text/html;charset=utf-8', body });

async function api(query: URLSearchParams, body: URLSearchParams): Promise<Answer | 'hang'> {
  const method = query.get('method') ?? '';
  const appId = query.get('app_id') ?? '';
  seen.push({ method, params: Object.fromEntries([...query, ...body]) });
  const nth = faults.findIndex((one) => one.of === undefined || one.of === method);
  const [fault] = nth === -1 ? [] : faults.splice(nth, 1);
  if (fault?.kind === 'error') return { status: 500, type: 'text/html', body: 'Internal Server Error' };
  if (fault?.kind === 'nonsense') return { status: 200, type: 'text/html', body: '<html>Busy</html>' };
  let text: string;
  try {
    const request: Request = await gateway.admit(query, body);
    if (fault?.kind === 'refused') throw new Refused(fault.subCode ?? '', fault.code);
    text = await gateway.write(method, appId, gateway.perform(request));
  } catch (error) {
    if (!(error instanceof Refused)) throw error;
    text = await gateway.refuse(method, appId, error);
  }
  if (fault?.kind === 'accepted') return 'hang';
  if (fault?.kind === 'tampered')
    text = text.replace('"trade_status":"WAIT_BUYER_PAY"', '"trade_status":"TRADE_SUCCESS"');
  if (fault?.kind === 'tampered amount')
    text = text.replace(/"total_amount":"[\d.]+"/, '"total_amount":"0.01"');
  if (fault?.kind === 'unsigned') text = text.replace(/,"sign":"[^"]*"/, '');
  return { status: 200, type: 'text/html;charset=utf-8', body: text };
}

/** Reads the terms of the trade from the link or code that the payer opens. @throws Refused */
async function termsOf(url: URL): Promise<Terms> {
  if (url.pathname.startsWith('/qr/')) {
    const terms = books.codes.get(url.pathname.slice('/qr/'.length));
    if (terms === undefined) throw new Refused('ACQ.TRADE_NOT_EXIST');
    return terms;
  }
  const { params, method, appId } = await gateway.admit(url.searchParams, new URLSearchParams(), true);
  const content = JSON.parse(params.biz_content ?? '{}') as Record<string, unknown>;
  const product = {
    'alipay.trade.page.pay': 'FAST_INSTANT_TRADE_PAY',
    'alipay.trade.wap.pay': 'QUICK_WAP_WAY',
  }[method];
  if (product === undefined || content.product_code !== product || params.return_url === undefined) {
    throw new Refused('ACQ.INVALID_PARAMETER');
  }
  if (method === 'alipay.trade.wap.pay' && typeof content.quit_url !== 'string') {
    throw new Refused('ACQ.INVALID_PARAMETER');
  }
  return books.terms(appId, params.notify_url, content);
}

/** The page of a trade. Opening the page creates the trade, and posting its form pays the trade. */
async function page(url: URL, isPaying: boolean): Promise<Answer> {
  try {
    const trade = books.open(await termsOf(url));
    if (isPaying) {
      books.pay(trade);
      await notifier.tell(trade);
      return html('<p>Paid</p>');
    }
    const form = `<form method="post"><button>Pay ${toYuan(trade.total)}</button></form>`;
    return html(trade.status === 'WAIT_BUYER_PAY' ? form : `<p>${trade.status}</p>`);
  } catch (error) {
    if (error instanceof Refused) return html(`<p>${error.subCode}</p>`, 400);
    throw error;
  }
}

const tradeOf = (given: Record<string, string>): BookedTrade =>
  books.find(given.appId ?? '', given.outTradeNo);

/** The commands that act as a payer or as the merchant. Each accepts and returns JSON. */
const COMMANDS: Record<string, (given: never) => unknown> = {
  reset: () => {
    books.trades.clear();
    books.codes.clear();
    books.offsetMs = 0;
    books.bookOffsetMs = 0;
    books.balanceIsLow = false;
    notifier.fate = 'delivered';
    notifier.held.length = 0;
    notifier.answers.length = 0;
    seen.length = 0;
    faults = [];
    gateway.withCertificates.clear();
    return {};
  },
  faults: (given: Fault[]) => {
    faults = given;
    return {};
  },
  fate: ({ fate }: { fate: Notifier['fate'] }) => {
    notifier.fate = fate;
    return {};
  },
  deliver: async () => {
    for (const one of notifier.held.splice(0)) await notifier.send(one);
    return {};
  },
  answers: () => notifier.answers,
  seen: () => seen,
  clock: ({ offsetMs }: { offsetMs: number }) => {
    books.offsetMs = offsetMs;
    return {};
  },
  bookClock: ({ offsetMs }: { offsetMs: number }) => {
    books.bookOffsetMs = offsetMs;
    return {};
  },
  balance: ({ isLow }: { isLow: boolean }) => {
    books.balanceIsLow = isLow;
    return {};
  },
  certificates: ({ appId }: { appId: string }) => {
    gateway.withCertificates.add(appId);
    return {};
  },
  finish: (given: Record<string, string>) => {
    tradeOf(given).status = 'TRADE_FINISHED';
    return {};
  },
  close: (given: Record<string, string>) => {
    books.close(tradeOf(given));
    return {};
  },
  refund: async ({ amount, ...given }: { amount: string; [name: string]: string }) => {
    const trade = tradeOf(given);
    const no = `platform_${books.next()}`;
    books.refund(trade, no, amount);
    await notifier.tell(trade, no);
    return {};
  },
  books: (given: Record<string, string>) => {
    const trade = books.trades.get(`${given.appId} ${given.outTradeNo}`);
    const code = [...books.codes.values()].find(({ outTradeNo }) => outTradeNo === given.outTradeNo);
    if (trade === undefined)
      return { trades: 0, asked: code === undefined ? '' : toYuan(code.total), refunded: '' };
    return {
      trades: 1,
      asked: toYuan(trade.total),
      refunded: toYuan(books.refunded(trade)),
      status: trade.status,
      subject: trade.subject,
      ends: trade.ends,
    };
  },
  ledger: () => books.ledger(),
  /** Returns a signed notification about the trade, with the given changes to its parameters. */
  notification: async (given: { changes?: Record<string, string>; appId: string; outTradeNo: string }) => {
    const trade = books.find(given.appId, given.outTradeNo);
    return { body: await notifier.write({ ...notifier.params(trade), ...given.changes }) };
  },
  sign: async ({ params }: { params: Record<string, string> }) => ({ body: await notifier.write(params) }),
  verify: async ({ params, sign }: { params: Record<string, string>; sign: string }) => ({
    good: await oracle.verifyNotification(params, sign),
  }),
};

async function bodyOf(request: IncomingMessage): Promise<string> {
  const chunks: Buffer[] = [];
  for await (const chunk of request) chunks.push(chunk as Buffer);
  return Buffer.concat(chunks).toString('utf8');
}

async function answer(request: IncomingMessage): Promise<Answer | 'hang'> {
  const body = await bodyOf(request);
  const url = new URL(request.url ?? '/', 'http://double');
  const name = /^\/_control\/(\w+)$/.exec(url.pathname)?.[1];
  if (name !== undefined) {
    try {
      return json((await COMMANDS[name]?.(JSON.parse(body) as never)) ?? null);
    } catch (error) {
      return json({ error: String(error) }, 400);
    }
  }
  const isLink =
    url.pathname === '/gateway.do' && /\.(page|wap)\.pay$/.test(url.searchParams.get('method') ?? '');
  if (isLink || url.pathname.startsWith('/qr/')) return await page(url, request.method === 'POST');
  if (url.pathname === '/gateway.do' && request.method === 'POST') {
    return await api(url.searchParams, new URLSearchParams(body));
  }
  return html('Not Found', 404);
}

const server = createServer((request, response) => {
  answer(request)
    .then((given) => {
      // If a fault makes the request hang, the double never sends the answer.
      if (given === 'hang') return;
      response.writeHead(given.status, { 'content-type': given.type }).end(given.body);
    })
    .catch((error: unknown) => {
      console.error(error);
      response.writeHead(500).end('internal error of the double');
    });
});
process.stdin.resume().once('end', () => process.exit(0));
server.listen(Number(process.env.PORT ?? 0), '127.0.0.1', () => {
  const { port } = server.address() as AddressInfo;
  gateway.codeUrl = `http://127.0.0.1:${port}`;
  console.log(JSON.stringify({ url: gateway.codeUrl, keys, sellers: APPS }));
});
