import { timingSafeEqual } from 'node:crypto';
import type { Request } from 'express';
import { CLIENT_TOKEN_GRACE_MS, hashSecret } from '../../client-token.ts';
import { DEVELOPMENT_MERCHANT } from '../../domain/names.ts';
import { Refusal } from '../../domain/refusal.ts';
import { storeConfigured } from '../../ledger/channel-accounts.ts';
import { type Caller, ensureMerchant, findCaller } from '../../ledger/merchants.ts';
import type { Payment } from '../../ledger/rows.ts';
import { findSecrets, type NamedToken } from '../../ledger/secrets.ts';
import { isDirectLocalCall, isLoopback, isLoopbackUrl } from '../../loopback.ts';
import type { Api } from '../api-deps.ts';
import { clientAddress } from '../http/client-address.ts';
import type { SecretName } from '../http/failed-lookups.ts';

/** Authenticates requests by a merchant's key or by the client token of a payment. */

/**
 * The development key. It is public and never stored, and works only with the embedded stack (see
 * `isDevelopmentKeyAccepted`).
 */
export const DEVELOPMENT_KEY = 'sk_dev_nodrop';

export type KeyAccess = { readonly kind: 'key'; readonly caller: Caller };
export type TokenAccess = {
  readonly kind: 'token';
  readonly token: string;
  readonly hash: string;
  /** The sender's address. A wrong token counts against the limit of this address. */
  readonly address: string;
  /**
   * False if the request must be refused when its token cannot be looked up immediately (see `FailedLookups.lookUp`).
   */
  readonly mayWait: boolean;
};
export type Access = KeyAccess | TokenAccess;

/** @param mayWait see `FailedLookups.lookUp` */
export type Authenticate = (request: Request, mayWait: boolean) => Promise<Access>;

const unauthorized = (detail: string) => new Refusal('unauthorized', detail);

/**
 * @returns a function that authenticates a request by its header `Authorization`. The function throws Refusal
 * `unauthorized` or `too_many_requests`.
 */
export function createAuthenticate(api: Api): Authenticate {
  const developmentCaller = createDevelopmentCaller(api);
  return async (request, mayWait) => {
    const [, credential] = /^Bearer +([\w~+/=.-]{1,200})$/i.exec(request.headers.authorization ?? '') ?? [];
    if (credential === undefined) throw unauthorized('Send the header Authorization: Bearer KEY.');
    if (credential.startsWith('ct_')) {
      return tokenAccess(credential, request, mayWait);
    }
    if (credential === DEVELOPMENT_KEY) {
      if (!isDevelopmentKeyAccepted(api.config, request)) {
        throw unauthorized(
          'The development key works only in test mode, on the embedded database, from this machine.',
        );
      }
      return { kind: 'key', caller: await developmentCaller() };
    }
    const caller = await api.failedLookups.lookUp(
      clientAddress(request),
      keyName(hashSecret(credential)),
      () => findCaller(api.db, credential),
      mayWait,
    );
    if (caller === null) throw unauthorized('The key is unknown or revoked.');
    return { kind: 'key', caller };
  };
}

const keyName = (hash: string): SecretName => `key/${hash}`;
export const tokenName = ({ paymentId, hash }: NamedToken): SecretName => `token/${paymentId}/${hash}`;

/** @returns a function that checks many keys and client tokens with one SQL statement, and returns the valid ones */
export function createFindOpening(
  db: Api['db'],
  now: () => Date,
): (names: readonly SecretName[]) => Promise<ReadonlySet<SecretName>> {
  return async (names) => {
    const keyHashes: string[] = [];
    const tokens: NamedToken[] = [];
    for (const name of names) {
      const [kind, first = '', second = ''] = name.split('/');
      if (kind === 'key') keyHashes.push(first);
      else tokens.push({ paymentId: first, hash: second });
    }
    const endedAt = new Date(now().getTime() - CLIENT_TOKEN_GRACE_MS);
    const opening = await findSecrets(db, { keyHashes, tokens }, endedAt);
    return new Set([...opening.keyHashes.map(keyName), ...opening.tokens.map(tokenName)]);
  };
}

/** Returns what a request with this client token may access. */
export const tokenAccess = (token: string, request: Request, mayWait = true): TokenAccess => ({
  mayWait,
  kind: 'token',
  token,
  hash: hashSecret(token),
  address: clientAddress(request),
});

/**
 * True if a request may use the development key. The key is public, so it works only if nobody else can reach the API.
 * nodrop must run in test mode with the embedded database, and its listener and public URL must be on loopback. The
 * request must come directly from this machine, and not from a web page of another origin.
 */
export function isDevelopmentKeyAccepted(
  config: Pick<Api['config'], 'mode' | 'embeddedDatabase' | 'api'>,
  request: Pick<Request, 'headers' | 'socket'>,
): boolean {
  const { origin } = request.headers;
  return (
    config.mode === 'test' &&
    config.embeddedDatabase &&
    isLoopback(config.api.host) &&
    isLoopbackUrl(config.api.publicUrl) &&
    isDirectLocalCall(request) &&
    (origin === undefined || isLoopbackUrl(origin))
  );
}

/**
 * @returns a function that resolves to the caller of the development key. Its first call creates the merchant of the
 * key. If the creation fails, the next call tries again.
 */
export function createDevelopmentCaller({
  db,
  configured,
  config,
  now,
}: Pick<Api, 'db' | 'configured' | 'now'> & {
  readonly config: Pick<Api['config'], 'secret'>;
}): () => Promise<Caller> {
  let known: Promise<Caller> | undefined;
  const make = async (): Promise<Caller> => {
    const { merchant } = await ensureMerchant(
      db,
      DEVELOPMENT_MERCHANT,
      configured.map(({ channel }) => channel),
    );
    await storeConfigured(db, configured, config.secret, now());
    return { merchantId: merchant.id, role: 'operator' };
  };
  return async () => {
    known ??= make();
    try {
      return await known;
    } catch (error) {
      known = undefined;
      throw error;
    }
  };
}

/** True if `hash` is the hash of the payment's client token, and the token has not expired. */
export function opens(hash: string, payment: Payment, now: Date): boolean {
  return isSameHash(hash, payment.clientTokenHash) && now.getTime() < tokenEndsAt(payment);
}

/** Compares two hex hashes in constant time. */
export function isSameHash(one: string, other: string): boolean {
  const given = Buffer.from(one, 'hex');
  const known = Buffer.from(other, 'hex');
  return given.length === known.length && timingSafeEqual(given, known);
}

/** The time at which the payment's client token expires, in epoch ms. */
export const tokenEndsAt = ({ expiresAt }: Pick<Payment, 'expiresAt'>): number =>
  expiresAt.getTime() + CLIENT_TOKEN_GRACE_MS;

/**
 * The payment, if the caller may see it. A merchant's key opens only payments of that merchant. A token opens one
 * payment. The refusal does not reveal whether the payment exists.
 * @throws Refusal `payment_not_found` or `unauthorized`
 */
export function requireAccess<T extends Payment>(
  payment: T | null,
  access: Access,
  id: string,
  now: Date,
): T {
  if (access.kind === 'token') {
    if (payment !== null && opens(access.hash, payment, now)) return payment;
    throw unauthorized('This token does not open this payment, or has expired.');
  }
  if (payment !== null && payment.merchantId === access.caller.merchantId) return payment;
  throw new Refusal('payment_not_found', `There is no payment ${id}.`);
}
