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

/** Whom a request speaks for. */
export interface Caller {
  readonly merchantId: string;
  readonly role: Role;
}

/**
 * The merchant of this name, made when there is none, with an account at each of the given channels, without credentials.
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

/** Makes a key: 32 random bytes, returned once and stored as SHA-256. */
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

/** Makes a key open nothing from now on. @returns since when it opens nothing, or null when there is no such key. */
export async function revokeApiKey(db: LedgerClient, id: string, now: Date): Promise<Date | null> {
  await db.apiKey.updateMany({ where: { id, revokedAt: null }, data: { revokedAt: now } });
  return (await db.apiKey.findUnique({ where: { id } }))?.revokedAt ?? null;
}

export type MerchantWithSettings = Merchant & {
  readonly channelAccounts: ChannelAccount[];
  /** Those that sign now, the current one first. */
  readonly signingSecrets: SigningSecret[];
};

/** Every merchant with its accounts and secrets, the oldest first. */
export async function findMerchants(db: LedgerClient, now: Date): Promise<MerchantWithSettings[]> {
  return await db.merchant.findMany({
    include: { channelAccounts: { orderBy: { channel: 'asc' } }, signingSecrets: signing(now) },
    orderBy: [{ createdAt: 'asc' }, { id: 'asc' }],
  });
}

/** What can be set of a merchant; what is left out stays. */
export interface MerchantSettings {
  readonly latePayment?: LatePayment;
  /** Null: the embedded order service alone. */
  readonly orderServiceUrl?: string | null;
  readonly orderStatusUrl?: string | null;
  /** Of its own apps, in small letters and without a colon: where payers may be sent back to. */
  readonly returnSchemes?: readonly string[];
}

/**
 * Decisions and events from now on go by it. A merchant's first order service gets its first secret, which is
 * returned once and stored encrypted.
 * @returns null when there is no merchant of this name.
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
 * Makes another secret the current one. All others sign until `oldValidMs` from now at most.
 * @returns null when there is no merchant of this name.
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

/** Two commands at once must not both make the current secret. */
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

/** The secrets that sign now, the current one first. */
const signing = (now: Date) => ({
  where: { OR: [{ expiresAt: null }, { expiresAt: { gt: now } }] },
  orderBy: [
    { expiresAt: { sort: 'desc', nulls: 'first' } } as const,
    { createdAt: 'desc' } as const,
    { id: 'desc' } as const,
  ],
});

/**
 * Where the merchant's events go, and what signs them; null without an HTTP order service.
 * @throws UnreadableSecret when the current secret was stored under another one.
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
      // Without the old ones a new NODROP_SECRET needs no more than a new secret.
      if (expiresAt !== null) return [];
      throw error;
    }
  });
  return { url: merchant.orderServiceUrl, statusUrl: merchant.orderStatusUrl, secrets };
}

/** True when the merchant has allowed this scheme of an app. */
export async function allowsReturnScheme(
  db: LedgerClient,
  merchantId: string,
  scheme: string,
): Promise<boolean> {
  return (await db.merchant.count({ where: { id: merchantId, returnSchemes: { has: scheme } } })) === 1;
}

/** The caller a key belongs to, or null for an unknown or revoked one. */
export async function findCaller(db: LedgerClient, key: string): Promise<Caller | null> {
  const row = await db.apiKey.findUnique({ where: { hash: hashSecret(key) } });
  if (row === null || row.revokedAt !== null) return null;
  return { merchantId: row.merchantId, role: row.role as Role };
}
