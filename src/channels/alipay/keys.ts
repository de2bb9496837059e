import { createPrivateKey, createPublicKey, type KeyObject, X509Certificate } from 'node:crypto';
import type { AlipaySdk } from 'alipay-sdk';
import { ChannelError, type Credentials } from '../../domain/channel.ts';

/** Builds Alipay's library from the settings of an account. Keys and certificates are read once. */

const misconfigured = (message: string, cause?: unknown) =>
  new ChannelError('misconfigured', `alipay: ${message}`, { cause });

const isPem = (text: string) => text.includes('-----BEGIN ');
const der = (base64: string) => Buffer.from(base64.replace(/\s/g, ''), 'base64');

/**
 * Reads a private key from PEM, or from the base64 text inside a PEM. Alipay's tool writes PKCS #8 for Java and PKCS #1
 * for other languages.
 */
function readPrivateKey(text: string): KeyObject {
  const read = (input: Parameters<typeof createPrivateKey>[0]) => {
    try {
      return createPrivateKey(input);
    } catch {
      return undefined;
    }
  };
  const key = isPem(text)
    ? read(text.trim())
    : (read({ key: der(text), format: 'der', type: 'pkcs8' }) ??
      read({ key: der(text), format: 'der', type: 'pkcs1' }));
  // The error does not quote the setting that could not be read, because the setting is a secret.
  if (key?.asymmetricKeyType !== 'rsa') throw misconfigured('private_key is not a readable RSA key');
  return key;
}

function readPublicKey(text: string): KeyObject {
  try {
    const key = createPublicKey(isPem(text) ? text.trim() : { key: der(text), format: 'der', type: 'spki' });
    if (key.asymmetricKeyType === 'rsa') return key;
  } catch (cause) {
    throw misconfigured('alipay_public_key cannot be read', cause);
  }
  throw misconfigured('alipay_public_key is not an RSA key');
}

function readCertificate(name: string, text: string): X509Certificate {
  try {
    return new X509Certificate(text);
  } catch (cause) {
    throw misconfigured(`${name} cannot be read`, cause);
  }
}

const CERTIFICATES = ['app_cert', 'alipay_cert', 'alipay_root_cert'] as const;

/**
 * The account's certificates. Undefined if the account uses a public key instead.
 * @throws ChannelError `misconfigured` if some certificates are missing, or if both a public key and certificates are
 *   set
 */
function certificatesOf(credentials: Credentials) {
  const given = CERTIFICATES.filter((name) => credentials[name] !== undefined);
  const hasKey = credentials.alipay_public_key !== undefined;
  if (given.length === 0 && hasKey) return undefined;
  const { app_cert, alipay_cert, alipay_root_cert } = credentials;
  if (hasKey || app_cert === undefined || alipay_cert === undefined || alipay_root_cert === undefined) {
    throw misconfigured(
      'an account has either alipay_public_key, or all of app_cert, alipay_cert and alipay_root_cert',
    );
  }
  return { app_cert, alipay_cert, alipay_root_cert };
}

/**
 * One instance of Alipay's library for each credentials object. An account keeps its credentials object until its
 * settings change.
 */
const known = new WeakMap<Credentials, Promise<AlipaySdk>>();

/**
 * Returns an instance of Alipay's library with these settings. nodrop sends the requests itself, so the library needs
 * no gateway and no timeouts.
 * @throws ChannelError `misconfigured` for settings that cannot be read
 */
export function sdkOf(credentials: Credentials): Promise<AlipaySdk> {
  const made = known.get(credentials) ?? makeSdk(credentials);
  known.set(credentials, made);
  return made;
}

async function makeSdk(credentials: Credentials): Promise<AlipaySdk> {
  const { app_id: appId, private_key } = credentials;
  if (appId === undefined || private_key === undefined) {
    throw misconfigured('the account has no app_id or no private_key');
  }
  // The PEM must not end in an empty line, because the library removes the `END` line only if it is the last line.
  const privateKey = readPrivateKey(private_key).export({ type: 'pkcs8', format: 'pem' }).toString().trim();
  const certificates = certificatesOf(credentials);
  // nodrop imports Alipay's library only when it is first needed. So a process without an Alipay account saves time and
  // memory.
  const { AlipaySdk } = await import('alipay-sdk');
  const common = { appId, privateKey, keyType: 'PKCS8', signType: 'RSA2' } as const;
  if (certificates === undefined) {
    const key = readPublicKey(credentials.alipay_public_key ?? '');
    const alipayPublicKey = key.export({ type: 'spki', format: 'pem' }).toString().trim();
    return new AlipaySdk({ ...common, alipayPublicKey });
  }
  for (const name of CERTIFICATES) readCertificate(name, certificates[name]);
  try {
    return new AlipaySdk({
      ...common,
      appCertContent: certificates.app_cert,
      alipayPublicCertContent: certificates.alipay_cert,
      alipayRootCertContent: certificates.alipay_root_cert,
    });
  } catch (cause) {
    throw misconfigured('the certificates cannot be read', cause);
  }
}

/**
 * Checks the settings for errors that are visible without a request. Examples are swapped keys, a certificate for
 * another key, and an expired certificate.
 * @throws ChannelError `misconfigured`
 */
export function checkKeys(credentials: Credentials, now: Date): void {
  const own = readPrivateKey(credentials.private_key ?? '');
  const certificates = certificatesOf(credentials);
  if (certificates === undefined) {
    if (readPublicKey(credentials.alipay_public_key ?? '').equals(createPublicKey(own))) {
      throw misconfigured(
        "alipay_public_key is the application's own key: use the one that the platform shows as Alipay's",
      );
    }
    return;
  }
  const app = readCertificate('app_cert', certificates.app_cert);
  if (!app.checkPrivateKey(own)) throw misconfigured('app_cert is the certificate of another private_key');
  for (const name of ['app_cert', 'alipay_cert'] as const) {
    const { validTo } = readCertificate(name, certificates[name]);
    if (Date.parse(validTo) < now.getTime()) throw misconfigured(`${name} was valid until ${validTo}`);
  }
}
