import { createPrivateKey, createPublicKey, type KeyObject, X509Certificate } from 'node:crypto';
import type { AlipaySdk } from 'alipay-sdk';
import { ChannelError, type Credentials } from '../../domain/channel.ts';

/** The settings of an account as Alipay's library takes them, read once. */

const misconfigured = (message: string, cause?: unknown) =>
  new ChannelError('misconfigured', `alipay: ${message}`, { cause });

const isPem = (text: string) => text.includes('-----BEGIN ');
const der = (base64: string) => Buffer.from(base64.replace(/\s/g, ''), 'base64');

/** PEM, or the base64 of it: PKCS #8 as Alipay's tool writes it for Java, PKCS #1 as for other languages. */
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
  // Without what could not be read, which is a secret.
  if (key?.asymmetricKeyType !== 'rsa') throw misconfigured('private_key is no RSA key that can be read');
  return key;
}

function readPublicKey(text: string): KeyObject {
  try {
    const key = createPublicKey(isPem(text) ? text.trim() : { key: der(text), format: 'der', type: 'spki' });
    if (key.asymmetricKeyType === 'rsa') return key;
  } catch (cause) {
    throw misconfigured('alipay_public_key cannot be read', cause);
  }
  throw misconfigured('alipay_public_key is no RSA key');
}

function readCertificate(name: string, text: string): X509Certificate {
  try {
    return new X509Certificate(text);
  } catch (cause) {
    throw misconfigured(`${name} cannot be read`, cause);
  }
}

const CERTIFICATES = ['app_cert', 'alipay_cert', 'alipay_root_cert'] as const;

/** The certificates, or undefined in public-key mode. @throws ChannelError `misconfigured` for some of them, or both modes */
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

/** By the object, which is the same as long as the account's settings are. */
const known = new WeakMap<Credentials, Promise<AlipaySdk>>();

/**
 * The library with these settings; what it sends is sent by us, so it has no gateway and no time-outs.
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
  // The library cuts the last line off only when it is not empty.
  const privateKey = readPrivateKey(private_key).export({ type: 'pkcs8', format: 'pem' }).toString().trim();
  const certificates = certificatesOf(credentials);
  // Loaded at the first use: a process without an Alipay account has neither its time nor its memory.
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
 * What can be seen in the settings alone: keys that are taken for one another, certificates of another key or time.
 * @throws ChannelError `misconfigured`
 */
export function checkKeys(credentials: Credentials, now: Date): void {
  const own = readPrivateKey(credentials.private_key ?? '');
  const certificates = certificatesOf(credentials);
  if (certificates === undefined) {
    if (readPublicKey(credentials.alipay_public_key ?? '').equals(createPublicKey(own))) {
      throw misconfigured(
        "alipay_public_key is the application's own: take the one that the platform shows as Alipay's",
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
