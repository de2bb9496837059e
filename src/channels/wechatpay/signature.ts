import { createDecipheriv, createSign, createVerify, type KeyObject, randomBytes } from 'node:crypto';
import type { Merchant } from './merchant.ts';

/**
 * Makes and checks the signatures of WeChat Pay's API v3, and decrypts the resources in answers and callbacks.
 * Requests, answers and callbacks are signed with RSA and SHA-256. The signed text consists of lines that each end with
 * a line feed (https://wechatpay-api.gitbook.io/wechatpay-api-v3/qian-ming-zhi-nan-1). Resources are encrypted with
 * AES-256-GCM, with a nonce of 12 bytes and the tag at the end
 * (https://pay.weixin.qq.com/docs/partner/apis/partner-scannedpos-payment/payment-notice.html).
 */

export const SIGNATURE_TYPE = 'WECHATPAY2-SHA256-RSA2048';

/** The length of the tag at the end of a ciphertext, bytes. */
const TAG_BYTES = 16;
const NONCE_BYTES = 12;

export const newNonce = (): string => randomBytes(16).toString('hex').toUpperCase();
export const nowInSeconds = (): string => String(Math.floor(Date.now() / 1000));

/** Signs the lines and returns the signature in base64. A line feed is added to the end of each line. */
export const signLines = (key: KeyObject, lines: readonly string[]): string =>
  createSign('RSA-SHA256')
    .update(lines.map((line) => `${line}\n`).join(''))
    .sign(key, 'base64');

/**
 * Builds the header `Authorization` of a request. `path` includes the query string. `body` is the body exactly as it is
 * sent.
 */
export function authorize(
  { mchid, serialNo, privateKey }: Merchant,
  request: { readonly method: string; readonly path: string; readonly body: string },
): string {
  const [timestamp, nonce] = [nowInSeconds(), newNonce()];
  const signature = signLines(privateKey, [request.method, request.path, timestamp, nonce, request.body]);
  const fields = { mchid, nonce_str: nonce, signature, timestamp, serial_no: serialNo };
  const written = Object.entries(fields).map(([name, value]) => `${name}="${value}"`);
  return `${SIGNATURE_TYPE} ${written.join(',')}`;
}

/** The signature headers of an answer or a callback. */
export interface Signed {
  readonly timestamp: string;
  readonly nonce: string;
  readonly signature: string;
  readonly serial: string;
}

/** Reads the signature headers. Returns undefined if a header is missing or invalid. */
export function signedOf(header: (name: string) => string | undefined): Signed | undefined {
  const [timestamp, nonce, signature, serial] = ['timestamp', 'nonce', 'signature', 'serial'].map((name) =>
    header(`wechatpay-${name}`),
  );
  const type = header('wechatpay-signature-type') ?? SIGNATURE_TYPE;
  if (!timestamp || !nonce || !signature || !serial || type !== SIGNATURE_TYPE) return undefined;
  if (!/^\d{1,12}$/.test(timestamp) || !/^[0-9A-Za-z+/]{4,}={0,2}$/.test(signature)) return undefined;
  return { timestamp, nonce, signature, serial };
}

/** True if the key has signed this body with these headers. */
export const isSignedBy = (key: KeyObject, { timestamp, nonce, signature }: Signed, body: Buffer): boolean =>
  createVerify('RSA-SHA256')
    .update(`${timestamp}\n${nonce}\n`)
    .update(body)
    .update('\n')
    .verify(key, signature, 'base64');

/** An encrypted resource as WeChat Pay sends it. */
export interface Encrypted {
  readonly ciphertext: string;
  readonly nonce: string;
  readonly associated_data?: string | undefined;
}

/** Decrypts a resource. Returns undefined if the key is wrong or the resource was changed. */
export function decrypt(apiV3Key: Buffer, encrypted: Encrypted): string | undefined {
  const bytes = Buffer.from(encrypted.ciphertext, 'base64');
  const nonce = Buffer.from(encrypted.nonce);
  if (bytes.length < TAG_BYTES || nonce.length !== NONCE_BYTES) return undefined;
  const decipher = createDecipheriv('aes-256-gcm', apiV3Key, nonce, { authTagLength: TAG_BYTES });
  decipher.setAuthTag(bytes.subarray(-TAG_BYTES));
  decipher.setAAD(Buffer.from(encrypted.associated_data ?? ''));
  try {
    return Buffer.concat([decipher.update(bytes.subarray(0, -TAG_BYTES)), decipher.final()]).toString('utf8');
  } catch {
    return undefined;
  }
}
