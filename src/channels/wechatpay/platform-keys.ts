import { createHash, type KeyObject, X509Certificate } from 'node:crypto';
import { z } from 'zod';
import { ChannelError } from '../../domain/channel.ts';
import { type Merchant, misconfigured } from './merchant.ts';
import { decrypt } from './signature.ts';

/** Keeps WeChat Pay's keys by their serial number. These keys verify the answers and callbacks of WeChat Pay. */

/**
 * nodrop fetches the certificates again when they are older than this. WeChat Pay's own library fetches them once a
 * day.
 */
const RENEW_AFTER_MS = 12 * 3_600_000;
/** Minimum time between two fetches of certificates that unknown serial numbers cause. */
const LOOK_AGAIN_MS = 60_000;
/** Minimum time between a failed fetch of certificates and the next fetch. */
const TRY_AGAIN_MS = 2_000;
/**
 * The maximum number of merchants whose certificates are kept. Above this number, nodrop drops the certificates that
 * were unused for longest, and fetches them again when needed.
 */
const MERCHANTS_AT_MOST = 1_000;
/**
 * The maximum number of certificates in one answer. WeChat Pay never has this many valid certificates at the same time.
 */
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

/**
 * Fetches WeChat Pay's certificates, with a separate timeout. The result is empty for a merchant in public-key mode
 * that has no certificates.
 */
export type FetchCertificates = (merchant: Merchant) => Promise<PlatformCertificates>;

interface Entry {
  certificates: PlatformCertificates;
  /** When the certificates were last fetched, in epoch ms. 0 if they were never fetched. */
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
   * Returns the key with this serial number. If the key is unknown, fetches the certificates first. If the key is known
   * but old, returns it at once and fetches the certificates in the background.
   * @returns undefined if WeChat Pay has no key with this serial number
   * @throws ChannelError if the certificates could not be fetched
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
   * Runs at most one fetch at a time for a merchant. Each fetch has its own timeout. If a caller's time ends earlier,
   * the caller stops waiting and the fetch continues.
   * @returns a promise that resolves when the fetch has ended, even if the fetch has failed
   */
  #fetching(merchant: Merchant, entry: Entry): Promise<void> {
    entry.fetching ??= (async () => {
      try {
        const fetched = await this.#fetch(merchant);
        // If WeChat Pay answers without certificates, nodrop keeps the known certificates until they expire.
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

/** True for a short time after a failed fetch of certificates. */
const isPaused = ({ failure }: Entry): boolean => failure !== null && Date.now() - failure.at < TRY_AGAIN_MS;

const aborted = (signal: AbortSignal): Promise<never> =>
  new Promise((_resolve, reject) => {
    const fail = () =>
      reject(new ChannelError('unreachable', 'wechatpay: no certificates in time', { cause: signal.reason }));
    if (signal.aborted) fail();
    signal.addEventListener('abort', fail, { once: true });
  });

/** WeChat Pay issues certificates for one merchant, and nodrop decrypts them with the key of that merchant. */
const idOf = ({ baseUrl, mchid, serialNo, apiV3Key }: Merchant): string =>
  [baseUrl, mchid, serialNo, createHash('sha256').update(apiV3Key).digest('hex')].join(' ');

const validNow = (certificate: PlatformCertificate | undefined): KeyObject | undefined => {
  const now = Date.now();
  return certificate !== undefined && certificate.from <= now && now <= certificate.to
    ? certificate.key
    : undefined;
};

/**
 * Reads the certificates in an answer whose signature is not checked yet. Only WeChat Pay and the merchant have the key
 * that encrypts these certificates. The result is keyed by serial number.
 * @throws ChannelError `garbage`, or `misconfigured` if the APIv3 key does not decrypt the certificates
 */
export function readCertificates(merchant: Merchant, body: unknown): PlatformCertificates {
  const parsed = certificatesSchema.safeParse(body);
  if (!parsed.success) {
    throw new ChannelError('garbage', 'wechatpay answered with unreadable certificates', {
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
        throw new ChannelError(
          'garbage',
          'wechatpay answered with a certificate that has another serial number',
        );
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
