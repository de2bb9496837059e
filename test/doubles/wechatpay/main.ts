// node --import tsx test/doubles/wechatpay/main.ts
//
// A WeChat Pay double for tests. It is a process with its own books. Its keys are real and created by OpenSSL. It
// implements the part of the API v3 that the adapter uses, and refuses what WeChat Pay refuses. The
// Python library wechatpayv3, and not the adapter's code, verifies every request and signs every answer.
// NODROP_WECHATPAYV3 is the folder of this library. Commands at /_control act as payers or merchants, or inject faults.
// Its first line of output has its address and its accounts. It ends when its standard input ends.
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { handleApi } from './api.ts';
import { Books, type Merchant } from './books.ts';
import { Caller } from './caller.ts';
import { control, type Double, type Fault } from './control.ts';
import { type CertifiedKey, makeApiV3Key, makeKey, makePublicKeyId } from './keys.ts';
import { Oracle } from './oracle.ts';

const oracle = new Oracle(process.env.NODROP_WECHATPAYV3 ?? '');
const books = new Books();
const caller = new Caller(books, oracle);
const double: Double = { books, caller, faults: [], seen: [] };
books.platform = [makeKey('platform')];
const publicKeyId = makePublicKeyId();
books.publicKeys.set(publicKeyId, makeKey('public key'));

function addMerchant(mchid: string, appid: string, changes: Partial<Merchant> = {}): Merchant {
  const merchant: Merchant = {
    ...{ mchid, appids: [appid], subMchids: [], key: makeKey(mchid), apiV3Key: makeApiV3Key() },
    ...{ publicKeyId: null, refundNotifyUrl: null },
    ...changes,
  };
  books.merchants.set(mchid, merchant);
  return merchant;
}

const direct = addMerchant('1900000109', 'wx8888888888888888');
const other = addMerchant('1900000110', 'wx9999999999999999');
const modern = addMerchant('1900000111', 'wx7777777777777777', { publicKeyId });
const provider = addMerchant('1900000112', 'wx6666666666666666', { subMchids: ['1900000201'] });

const credentialsOf = (base_url: string, { mchid, appids: [appid = ''], key, apiV3Key }: Merchant) => ({
  ...{ base_url, mchid, appid, serial_no: key.serial, private_key: key.privateKey, api_v3_key: apiV3Key },
});

const accounts = (url: string) => {
  const { publicKey: public_key = '' } = books.publicKeys.get(publicKeyId) ?? {};
  return {
    direct: credentialsOf(url, direct),
    other: credentialsOf(url, other),
    modern: { ...credentialsOf(url, modern), public_key_id: publicKeyId, public_key },
    provider: { ...credentialsOf(url, provider), sub_mchid: '1900000201' },
    /** An account with the number of the first merchant, and with a key that WeChat Pay does not know. */
    stranger: { ...credentialsOf(url, direct), private_key: makeKey('stranger').privateKey },
  };
};

interface Written {
  readonly status: number;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: string;
}

const json = { 'content-type': 'application/json; charset=utf-8' };
const unsigned = (status: number, code: string): Written => ({
  status,
  headers: json,
  body: JSON.stringify({ code, message: 'message' }),
});

/** Returns the merchant that sent the request, if the signature is right. */
async function whose(request: IncomingMessage, path: string, body: string): Promise<Merchant | undefined> {
  const [, written = ''] = /^WECHATPAY2-SHA256-RSA2048 (.+)$/.exec(request.headers.authorization ?? '') ?? [];
  const fields = Object.fromEntries(
    [...written.matchAll(/([a-z_]+)="([^"]*)"/g)].map(([, name = '', value = '']) => [name, value]),
  );
  const { mchid = '', nonce_str = '', timestamp = '', serial_no, signature = '' } = fields;
  const merchant = books.merchants.get(mchid);
  if (merchant === undefined || merchant.key.serial !== serial_no) return undefined;
  if (Math.abs(books.signedAt() / 1000 - Number(timestamp)) > 300) return undefined;
  const lines = [request.method ?? '', path, timestamp, nonce_str, body];
  return (await oracle.verify(merchant.key.publicKey, lines, signature)) ? merchant : undefined;
}

async function certificates(merchant: Merchant, fault: Fault | undefined): Promise<object> {
  const flip = (text: string) => `${text.startsWith('A') ? 'B' : 'A'}${text.slice(1)}`;
  const given: readonly CertifiedKey[] =
    fault?.kind === 'other certificates' ? [makeKey('forged')] : books.platform;
  return {
    data: await Promise.all(
      given.map(async ({ serial, certificate }) => {
        const sealed = await caller.seal(merchant, certificate, 'certificate');
        const { ciphertext } = sealed;
        return {
          serial_no: serial,
          effective_time: '2026-01-01T00:00:00+08:00',
          expire_time: '2031-01-01T00:00:00+08:00',
          encrypt_certificate: {
            ...sealed,
            ciphertext: fault?.kind === 'tampered certificates' ? flip(ciphertext) : ciphertext,
          },
        };
      }),
    ),
  };
}

/**
 * Signs the answer as the request demands. If the request names a public key, the private key of that public key
 * signs.
 */
async function written(
  request: IncomingMessage,
  merchant: Merchant,
  { status, content }: { status: number; content: object | null },
  fault: Fault | undefined,
): Promise<Written> {
  const body = content === null ? '' : JSON.stringify(content);
  const wants = request.headers['wechatpay-serial'];
  const signer = wants === merchant.publicKeyId ? merchant : { ...merchant, publicKeyId: null };
  const age = fault?.kind === 'old' ? 600_000 : 0;
  const headers = await caller.sign(signer, body, books.signedAt() - age);
  if (fault?.kind === 'wrong signature') {
    const { 'wechatpay-signature': right = '' } = await caller.sign(signer, `${body} `, books.signedAt());
    headers['wechatpay-signature'] = right;
  }
  if (fault?.kind === 'unknown serial') headers['wechatpay-serial'] = makeKey('unknown').serial;
  return {
    status,
    headers: {
      ...(content === null ? {} : json),
      ...(fault?.kind === 'unsigned' ? {} : headers),
      date: new Date(books.signedAt()).toUTCString(),
    },
    body,
  };
}

async function answer(request: IncomingMessage): Promise<Written | 'silence'> {
  const chunks: Buffer[] = [];
  for await (const chunk of request) chunks.push(chunk as Buffer);
  const body = Buffer.concat(chunks).toString('utf8');
  const [method, path] = [request.method ?? 'GET', request.url ?? '/'];
  const url = new URL(path, 'http://double');
  if (url.pathname.startsWith('/_control/')) {
    const said = await control(double, url.pathname.slice('/_control/'.length), body);
    return { status: 200, headers: json, body: JSON.stringify(said ?? null) };
  }
  double.seen.push({ method, path, body });
  const fault = double.faults.find(({ to, times }) => times > 0 && `${method} ${path}`.includes(to));
  if (fault !== undefined) fault.times -= 1;
  if (fault?.kind === 'silent') return 'silence';
  if (fault?.kind === 'nonsense') return { status: 200, headers: json, body: '<html>' };
  if (fault?.kind === 'status') return unsigned(fault.status, fault.code);
  const merchant = await whose(request, path, body);
  if (merchant === undefined) {
    const { status, headers, body: text } = unsigned(401, 'SIGN_ERROR');
    return { status, headers: { ...headers, date: new Date(books.signedAt()).toUTCString() }, body: text };
  }
  const content = (body === '' ? {} : JSON.parse(body)) as Record<string, unknown>;
  const given = await handleApi(books, merchant, {
    method,
    path: url.pathname,
    query: url.searchParams,
    content,
  });
  if (fault?.kind === 'acts, then silent') return 'silence';
  const hasNone = merchant.publicKeyId !== null;
  const made =
    given !== 'certificates'
      ? given
      : hasNone
        ? { status: 404, content: { code: 'RESOURCE_NOT_EXISTS', message: '无可用的平台证书' } }
        : { status: 200, content: await certificates(merchant, fault) };
  return await written(request, merchant, made, fault);
}

const server = createServer((request: IncomingMessage, response: ServerResponse) => {
  answer(request)
    .then((given) => {
      if (given === 'silence') return;
      response.writeHead(given.status, given.headers);
      response.end(given.body);
    })
    .catch((error: unknown) => {
      response.writeHead(500, json).end(JSON.stringify({ code: 'DOUBLE', message: String(error) }));
    });
});
server.listen(Number(process.env.PORT ?? 0), '127.0.0.1', () => {
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  const signers = Object.fromEntries(
    [direct, modern].map((merchant) => [
      merchant === modern ? 'publicKey' : 'certificate',
      { serial: caller.signerOf(merchant).serial, privateKey: caller.signerOf(merchant).privateKey },
    ]),
  );
  console.log(JSON.stringify({ url, accounts: accounts(url), signers }));
});
process.stdin.resume().once('end', () => process.exit(0));
