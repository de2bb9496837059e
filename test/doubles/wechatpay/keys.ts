import { execFileSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

/** A key with its certificate. OpenSSL created both. */
export interface CertifiedKey {
  readonly serial: string;
  readonly privateKey: string;
  readonly publicKey: string;
  readonly certificate: string;
}

export function makeKey(name: string): CertifiedKey {
  const folder = mkdtempSync(join(tmpdir(), 'nodrop-wechatpay-'));
  const [key, certificate] = [join(folder, 'key.pem'), join(folder, 'certificate.pem')];
  // The serial number must be positive and must not have leading zeros.
  const serial = `4${randomBytes(19).toString('hex')}9`.slice(0, 40).toUpperCase();
  try {
    const options = ['-newkey', 'rsa:2048', '-nodes', '-sha256', '-days', '30', '-set_serial', `0x${serial}`];
    const out = ['-subj', `/O=Double/CN=${name}`, '-keyout', key, '-out', certificate];
    execFileSync('openssl', ['req', '-x509', ...options, ...out], { stdio: 'pipe' });
    return {
      serial,
      privateKey: readFileSync(key, 'utf8'),
      publicKey: execFileSync('openssl', ['rsa', '-in', key, '-pubout'], { stdio: 'pipe', encoding: 'utf8' }),
      certificate: readFileSync(certificate, 'utf8'),
    };
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

/** The id of a public key. Public-key mode uses the key without its certificate. */
export const makePublicKeyId = (): string => `PUB_KEY_ID_01${randomBytes(14).toString('hex').toUpperCase()}`;

export const makeApiV3Key = (): string => randomBytes(16).toString('hex');
