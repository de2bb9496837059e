import { createPrivateKey, createPublicKey, type KeyObject } from 'node:crypto';
import { ChannelError, type Credentials } from '../../domain/channel.ts';
import { API_URL } from './declaration.ts';

/** The settings of an account at WeChat Pay, with parsed keys. */
export interface Merchant {
  readonly baseUrl: string;
  /** The number of the merchant that signs requests. */
  readonly mchid: string;
  readonly appid: string;
  readonly serialNo: string;
  readonly privateKey: KeyObject;
  readonly apiV3Key: Buffer;
  /** WeChat Pay's public key. It is set if the account is in public-key mode. */
  readonly publicKey: { readonly id: string; readonly key: KeyObject } | null;
  /** The merchant that receives the money. It is set if the account is in service-provider mode. */
  readonly sub: { readonly mchid: string; readonly appid: string | undefined } | null;
}

/**
 * The parsed settings for each credentials object. An account keeps its credentials object until its settings change.
 */
const known = new WeakMap<Credentials, Merchant>();

/**
 * Parses the settings of an account once.
 * @throws ChannelError `misconfigured` that names the wrong setting, but never contains its value
 */
export function readMerchant(credentials: Credentials | undefined): Merchant {
  if (credentials === undefined) return read(undefined);
  const merchant = known.get(credentials) ?? read(credentials);
  known.set(credentials, merchant);
  return merchant;
}

function read(credentials: Credentials | undefined): Merchant {
  const wanted = (name: string): string => {
    const value = credentials?.[name];
    if (value === undefined) throw misconfigured(`the account has no ${name}`);
    return value;
  };
  const { public_key_id, public_key, sub_mchid, sub_appid, base_url } = credentials ?? {};
  if ((public_key_id === undefined) !== (public_key === undefined)) {
    throw misconfigured('public_key_id and public_key belong together: give both or neither');
  }
  if (sub_appid !== undefined && sub_mchid === undefined) {
    throw misconfigured('sub_appid is for service-provider mode, which needs sub_mchid');
  }
  const apiV3Key = Buffer.from(wanted('api_v3_key'));
  if (apiV3Key.length !== 32) throw misconfigured('api_v3_key is not 32 bytes long');
  return {
    baseUrl: base_url ?? API_URL,
    mchid: wanted('mchid'),
    appid: wanted('appid'),
    serialNo: wanted('serial_no').toUpperCase(),
    privateKey: readKey('private_key', () => createPrivateKey(toPem(wanted('private_key')))),
    apiV3Key,
    publicKey:
      public_key_id === undefined || public_key === undefined
        ? null
        : { id: public_key_id, key: readKey('public_key', () => createPublicKey(toPem(public_key))) },
    sub: sub_mchid === undefined ? null : { mchid: sub_mchid, appid: sub_appid },
  };
}

function readKey(name: string, read: () => KeyObject): KeyObject {
  let key: KeyObject;
  try {
    key = read();
  } catch (error) {
    if (error instanceof ChannelError) throw error;
    throw misconfigured(`${name} cannot be read as a key in PEM`);
  }
  if (key.asymmetricKeyType !== 'rsa') throw misconfigured(`${name} is not an RSA key`);
  return key;
}

/** Restores the line breaks of a PEM key. In a `name=value` file, they may be missing or be written as `\n`. */
function toPem(value: string): string {
  const [, begin, body = '', end] =
    /^(-----BEGIN [A-Z ]+-----)([\s\S]*)(-----END [A-Z ]+-----)[\\rn\s]*$/.exec(value) ?? [];
  const lines = body.replace(/\\n|\\r|\s/g, '').match(/.{1,64}/g) ?? [];
  return [begin, ...lines, end].join('\n');
}

export const misconfigured = (what: string, cause?: unknown): ChannelError =>
  new ChannelError('misconfigured', `wechatpay: ${what}`, { cause });
