import { createHash, type KeyObject, X509Certificate } from 'node:crypto';
import { z } from 'zod';
import { ChannelError } from '../../domain/channel.ts';
import { type Merchant, misconfigured } from './merchant.ts';
import { decrypt } from './signature.ts';

/** WeChat Pay's keys, by which its answers and callbacks are verified, found by their serial. */

/** Certificates are fetched anew when they are this old; the own library of WeChat Pay does so once a day. */
const RENEW_AFTER_MS = 12 * 3_600_000;
/** A serial that is not known is looked for no more often than this, whoever names it. */
const LOOK_AGAIN_MS = 60_000;
/** After a fetch that failed the next one comes no sooner. */
const TRY_AGAIN_MS = 2_000;
/** Of more merchants than this the oldest is forgotten, and fetched again. */
const MERCHANTS_AT_MOST = 1_000;
/** As many as are ever valid at once, and some. */
const CERTIFICATES_AT_MOST = 20;

/** https://wechatpay-api.gitbook.io/wechatpay-api-v3/jie-kou-wen-dang/ping-tai-zheng-shu */
const certificatesSchema = z.object({
  data: z
    .array(
      z.object({
        serial_no: z.string(),
        encrypt_certificate: z.object({
          algorithm: z.literal('AEAD_AES_256_GCM'),
          nonce: z.string(),
          associated_data: z.string().optional(),
          ciphertext: z.string(),
        }),
      }),
    )
    .max(CERTIFICATES_AT_MOST),
});

export interface PlatformCertificate {
  readonly key: KeyObject;
  readonly from: number;
  readonly to: number;
}

export type PlatformCertificates = ReadonlyMap<string, PlatformCertificate>;

/** Asks WeChat Pay for its certificates, within a time-out of its own. Empty for a merchant that has none, in public-key mode. */
export type FetchCertificates = (merchant: Merchant) => Promise<PlatformCertificates>;

interface Entry {
  certificates: PlatformCertificates;
  /** When they were last fetched; 0 for never. */
  fetchedAt: number;
  failure: { readonly error: unknown; readonly at: number } | null;
  fetching: Promise<void> | null;
}

export class PlatformKeys {
  readonly #fetch: FetchCertificates;
  readonly #entries = new Map<string, Entry>();

  constructor(fetch: FetchCertificates) {
    this.#fetch = fetch;
  }

  /**
   * The key of this serial, fetched when it is not known. One that is known and old is renewed for the next time: nobody
   * waits for that.
   * @returns undefined when WeChat Pay has none of this serial
   * @throws ChannelError when the certificates could not be fetched
   */
  async keyOf(merchant: Merchant, serial: string, signal: AbortSignal): Promise<KeyObject | undefined> {
    if (serial === merchant.publicKey?.id) return merchant.publicKey.key;
    const name = serial.toUpperCase();
    if (!/^[0-9A-F]{8,40}$/.test(name)) return undefined;
    const entry = this.#entryOf(merchant);
    const known = validNow(entry.certificates.get(name));
    const age = Date.now() - entry.fetchedAt;
    if (known !== undefined) {
      if (age >= RENEW_AFTER_MS && !isPaused(entry)) void this.#fetching(merchant, entry);
      return known;
    }
    if (age < LOOK_AGAIN_MS) return undefined;
    await this.#renew(merchant, entry, signal);
    return validNow(entry.certificates.get(name));
  }

  /** Fetches the certificates now. @throws ChannelError */
  async renew(merchant: Merchant, signal: AbortSignal): Promise<void> {
    const entry = this.#entryOf(merchant);
    entry.failure = null;
    await this.#renew(merchant, entry, signal);
  }

  #entryOf(merchant: Merchant): Entry {
    const id = idOf(merchant);
    const entry = this.#entries.get(id) ?? {
      certificates: new Map(),
      fetchedAt: 0,
      failure: null,
      fetching: null,
    };
    this.#entries.delete(id);
    this.#entries.set(id, entry);
    for (const oldest of this.#entries.keys()) {
      if (this.#entries.size <= MERCHANTS_AT_MOST) break;
      this.#entries.delete(oldest);
    }
    return entry;
  }

  async #renew(merchant: Merchant, entry: Entry, signal: AbortSignal): Promise<void> {
    if (entry.failure !== null && isPaused(entry)) throw entry.failure.error;
    await Promise.race([this.#fetching(merchant, entry), aborted(signal)]);
    if (entry.failure !== null) throw entry.failure.error;
  }

  /**
   * The one fetch at a time, which ends by its own time-out: who has no time for it leaves it to the others.
   * @returns when it has ended, also when it has failed
   */
  #fetching(merchant: Merchant, entry: Entry): Promise<void> {
    entry.fetching ??= (async () => {
      try {
        const fetched = await this.#fetch(merchant);
        // A merchant that has had some is not without any: they count as long as they are valid.
        if (fetched.size > 0) entry.certificates = fetched;
        entry.fetchedAt = Date.now();
        entry.failure = null;
      } catch (error) {
        entry.failure = { error, at: Date.now() };
      } finally {
        entry.fetching = null;
      }
    })();
    return entry.fetching;
  }
}

/** True shortly after a fetch that has failed. */
const isPaused = ({ failure }: Entry): boolean => failure !== null && Date.now() - failure.at < TRY_AGAIN_MS;

const aborted = (signal: AbortSignal): Promise<never> =>
  new Promise((_resolve, reject) => {
    const fail = () =>
      reject(new ChannelError('unreachable', 'wechatpay: no certificates in time', { cause: signal.reason }));
    if (signal.aborted) fail();
    signal.addEventListener('abort', fail, { once: true });
  });

/** Certificates are the merchant's own, and are decrypted with its key. */
const idOf = ({ baseUrl, mchid, serialNo, apiV3Key }: Merchant): string =>
  [baseUrl, mchid, serialNo, createHash('sha256').update(apiV3Key).digest('hex')].join(' ');

const validNow = (certificate: PlatformCertificate | undefined): KeyObject | undefined => {
  const now = Date.now();
  return certificate !== undefined && certificate.from <= now && now <= certificate.to
    ? certificate.key
    : undefined;
};

/**
 * The certificates in an answer that is not proven yet, by their serials. Only WeChat Pay and the merchant have the key
 * that they are encrypted with.
 * @throws ChannelError `garbage`; `misconfigured` when the APIv3 key does not decrypt them
 */
export function readCertificates(merchant: Merchant, body: unknown): PlatformCertificates {
  const parsed = certificatesSchema.safeParse(body);
  if (!parsed.success) {
    throw new ChannelError('garbage', 'wechatpay gave certificates that cannot be read', {
      cause: parsed.error,
    });
  }
  return new Map(
    parsed.data.data.map(({ serial_no, encrypt_certificate }) => {
      const pem = decrypt(merchant.apiV3Key, encrypt_certificate);
      if (pem === undefined) throw misconfigured('api_v3_key does not decrypt the platform certificates');
      const certificate = readCertificate(pem);
      const serial = serial_no.toUpperCase();
      if (certificate === undefined || withoutZeros(certificate.serialNumber) !== withoutZeros(serial)) {
        throw new ChannelError('garbage', 'wechatpay gave a certificate that is not of its serial');
      }
      const { validFrom, validTo, publicKey: key } = certificate;
      return [serial, { key, from: Date.parse(validFrom), to: Date.parse(validTo) }];
    }),
  );
}

const withoutZeros = (serial: string): string => serial.replace(/^0+/, '');

function readCertificate(pem: string): X509Certificate | undefined {
  try {
    const certificate = new X509Certificate(pem);
    return certificate.publicKey.asymmetricKeyType === 'rsa' ? certificate : undefined;
  } catch {
    return undefined;
  }
}
