import { randomBytes } from 'node:crypto';
import { hashSecret } from '../client-token.ts';
import type { LatePayment } from '../domain/decision.ts';
import { newApiKeyId, newMerchantId, newSigningSecretId } from '../domain/ids.ts';
import type { OrderServiceTarget } from '../order-service/client.ts';
import { newSecret, openSecret, sealSecret } from '../order-service/secrets.ts';
import { ensureAccounts } from './channel-accounts.ts';
import type { LedgerClient, LedgerTx } from './client.ts';
import type { ChannelAccount, Merchant, SigningSecret } from './rows.ts';

export type Role = 'merchant' | 'operator';

/** The merchant and the role of an authenticated request. */
export interface Caller {
  readonly merchantId: string;
  readonly role: Role;
}

/**
 * Returns the merchant with this name, and creates the merchant if there is none. At each given channel where the
 * merchant has no account, the function creates an account without credentials.
 */
export async function ensureMerchant(
  db: LedgerClient,
  name: string,
  channels: readonly string[],
): Promise<{ merchant: Merchant; created: boolean }> {
  const made = await db.merchant.createMany({ data: { id: newMerchantId(), name }, skipDuplicates: true });
  const merchant = await db.merchant.findUniqueOrThrow({ where: { name } });
  await ensureAccounts(db, merchant.id, channels);
  return { merchant, created: made.count === 1 };
}

/** Creates an API key of 32 random bytes. The key is returned once, and nodrop stores its SHA-256. */
export async function createApiKey(
  db: LedgerClient,
  merchantId: string,
  role: Role,
): Promise<{ id: string; key: string }> {
  const key = `sk_${randomBytes(32).toString('base64url')}`;
  const id = newApiKeyId();
  await db.apiKey.create({ data: { id, merchantId, role, hash: hashSecret(key), hint: key.slice(-4) } });
  return { id, key };
}

/** Revokes an API key. @returns the time of the revocation, or null if the key does not exist. */
export async function revokeApiKey(db: LedgerClient, id: string, now: Date): Promise<Date | null> {
  await db.apiKey.updateMany({ where: { id, revokedAt: null }, data: { revokedAt: now } });
  return (await db.apiKey.findUnique({ where: { id } }))?.revokedAt ?? null;
}

export type MerchantWithSettings = Merchant & {
  readonly channelAccounts: ChannelAccount[];
  /** The merchant's secrets that sign events now, the current secret first. */
  readonly signingSecrets: SigningSecret[];
};

/** Lists every merchant with its accounts and signing secrets, oldest first. */
export async function findMerchants(db: LedgerClient, now: Date): Promise<MerchantWithSettings[]> {
  return await db.merchant.findMany({
    include: { channelAccounts: { orderBy: { channel: 'asc' } }, signingSecrets: signing(now) },
    orderBy: [{ createdAt: 'asc' }, { id: 'asc' }],
  });
}

/** The settings of a merchant. A setting that is left out keeps its value. */
export interface MerchantSettings {
  readonly latePayment?: LatePayment;
  /** The URL of the merchant's order service. It is null if the merchant has no HTTP order service. */
  readonly orderServiceUrl?: string | null;
  readonly orderStatusUrl?: string | null;
  /** URL schemes of the merchant's apps to which payers may be redirected. They are in lower case and have no colon. */
  readonly returnSchemes?: readonly string[];
}

/**
 * Changes a merchant's settings. They apply to all later decisions and events. When a merchant gets its first order
 * service, its first signing secret is created. That secret is returned once and stored encrypted.
 * @returns null if no merchant has this name.
 */
export async function setMerchant(
  db: LedgerClient,
  name: string,
  settings: MerchantSettings,
  nodropSecret: string,
  now: Date,
): Promise<{ merchant: MerchantWithSettings; secret: string | null } | null> {
  return await db.$transaction(async (tx) => {
    const id = await lockMerchant(tx, name);
    if (id === null) return null;
    const { returnSchemes, ...others } = settings;
    const { orderServiceUrl } = await tx.merchant.update({
      where: { id },
      data: { ...others, ...(returnSchemes === undefined ? {} : { returnSchemes: [...returnSchemes] }) },
    });
    const current = await tx.signingSecret.count({ where: { merchantId: id, expiresAt: null } });
    const secret =
      orderServiceUrl !== null && current === 0 ? await addSecret(tx, id, nodropSecret, now) : null;
    return { merchant: await readMerchant(tx, id, now), secret };
  });
}

/**
 * Creates a new signing secret, which becomes the merchant's current secret. Events are signed with each older secret
 * for at most `oldValidMs` from now.
 * @returns null if no merchant has this name.
 */
export async function rotateSecret(
  db: LedgerClient,
  name: string,
  oldValidMs: number,
  nodropSecret: string,
  now: Date,
): Promise<{ merchant: MerchantWithSettings; secret: string } | null> {
  return await db.$transaction(async (tx) => {
    const merchantId = await lockMerchant(tx, name);
    if (merchantId === null) return null;
    const expiresAt = new Date(now.getTime() + oldValidMs);
    await tx.signingSecret.updateMany({
      where: { merchantId, OR: [{ expiresAt: null }, { expiresAt: { gt: expiresAt } }] },
      data: { expiresAt },
    });
    const secret = await addSecret(tx, merchantId, nodropSecret, now);
    return { merchant: await readMerchant(tx, merchantId, now), secret };
  });
}

/** Locks the merchant's row, so that two concurrent commands cannot both create a current secret. */
async function lockMerchant(tx: LedgerTx, name: string): Promise<string | null> {
  const [row] = await tx.$queryRaw<
    { id: string }[]
  >`SELECT id FROM merchants WHERE name = ${name} FOR UPDATE`;
  return row?.id ?? null;
}

async function addSecret(tx: LedgerTx, merchantId: string, nodropSecret: string, now: Date): Promise<string> {
  const secret = newSecret();
  const ciphertext = sealSecret(nodropSecret, merchantId, secret);
  await tx.signingSecret.create({
    data: { id: newSigningSecretId(), merchantId, ciphertext, hint: secret.slice(-4), createdAt: now },
  });
  return secret;
}

const readMerchant = (tx: LedgerTx, id: string, now: Date) =>
  tx.merchant.findUniqueOrThrow({
    where: { id },
    include: { channelAccounts: true, signingSecrets: signing(now) },
  });

/** Selects the secrets that sign events now, the current secret first. */
const signing = (now: Date) => ({
  where: { OR: [{ expiresAt: null }, { expiresAt: { gt: now } }] },
  orderBy: [
    { expiresAt: { sort: 'desc', nulls: 'first' } } as const,
    { createdAt: 'desc' } as const,
    { id: 'desc' } as const,
  ],
});

/**
 * Returns the URLs of the merchant's order service, and the secrets that sign the events. Returns null if the merchant
 * has no HTTP order service.
 * @throws UnreadableSecret if the current secret was encrypted with another NODROP_SECRET.
 */
export async function findOrderService(
  db: LedgerClient | LedgerTx,
  merchantId: string,
  nodropSecret: string,
  now: Date,
): Promise<OrderServiceTarget | null> {
  const merchant = await db.merchant.findUnique({
    where: { id: merchantId },
    include: { signingSecrets: signing(now) },
  });
  if (merchant?.orderServiceUrl == null) return null;
  const secrets = merchant.signingSecrets.flatMap(({ ciphertext, expiresAt }) => {
    try {
      return [openSecret(nodropSecret, merchantId, ciphertext)];
    } catch (error) {
      // An older secret that cannot be read is skipped. Therefore one new secret is enough after a change of
      // NODROP_SECRET.
      if (expiresAt !== null) return [];
      throw error;
    }
  });
  return { url: merchant.orderServiceUrl, statusUrl: merchant.orderStatusUrl, secrets };
}

/** True if the merchant allows redirects to the app with this URL scheme. */
export async function allowsReturnScheme(
  db: LedgerClient,
  merchantId: string,
  scheme: string,
): Promise<boolean> {
  return (await db.merchant.count({ where: { id: merchantId, returnSchemes: { has: scheme } } })) === 1;
}

/** Returns the caller to whom the API key belongs. Returns null if the key is unknown or revoked. */
export async function findCaller(db: LedgerClient, key: string): Promise<Caller | null> {
  const row = await db.apiKey.findUnique({ where: { hash: hashSecret(key) } });
  if (row === null || row.revokedAt !== null) return null;
  return { merchantId: row.merchantId, role: row.role as Role };
}
