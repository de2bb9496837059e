import { randomBytes } from 'node:crypto';
import { hashSecret } from '../client-token.ts';
import type { LatePayment } from '../domain/decision.ts';
import { newApiKeyId, newChannelAccountId, newMerchantId } from '../domain/ids.ts';
import type { ChannelAccount, Merchant } from '../generated/prisma/client.ts';
import type { LedgerClient } from './client.ts';

export type Role = 'merchant' | 'operator';

/** Whom a request speaks for. */
export interface Caller {
  readonly merchantId: string;
  readonly role: Role;
}

/**
 * The merchant of this name, made when there is none, with an account at each of the given channels. The first
 * account of a channel is its default.
 */
export async function ensureMerchant(
  db: LedgerClient,
  name: string,
  channels: readonly string[],
): Promise<{ merchant: Merchant; created: boolean }> {
  const made = await db.merchant.createMany({ data: { id: newMerchantId(), name }, skipDuplicates: true });
  const merchant = await db.merchant.findUniqueOrThrow({ where: { name } });
  for (const channel of channels) {
    await db.$transaction(async (tx) => {
      // Two processes that start at once must not both make the default account.
      await tx.$queryRaw`SELECT 1 FROM pg_advisory_xact_lock(hashtext(${`nodrop-account-${channel}`}))`;
      const isDefault = (await tx.channelAccount.count({ where: { channel, isDefault: true } })) === 0;
      await tx.channelAccount.createMany({
        data: { id: newChannelAccountId(), merchantId: merchant.id, channel, isDefault },
        skipDuplicates: true,
      });
    });
  }
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

/** Every merchant with its accounts, the oldest first. */
export async function findMerchants(
  db: LedgerClient,
): Promise<(Merchant & { channelAccounts: ChannelAccount[] })[]> {
  return await db.merchant.findMany({
    include: { channelAccounts: { orderBy: { channel: 'asc' } } },
    orderBy: [{ createdAt: 'asc' }, { id: 'asc' }],
  });
}

/** Decisions from now on go by it. @returns false when there is no merchant of this name. */
export async function setLatePayment(
  db: LedgerClient,
  name: string,
  latePayment: LatePayment,
): Promise<boolean> {
  return (await db.merchant.updateMany({ where: { name }, data: { latePayment } })).count === 1;
}

/** The caller a key belongs to, or null for an unknown or revoked one. */
export async function findCaller(db: LedgerClient, key: string): Promise<Caller | null> {
  const row = await db.apiKey.findUnique({ where: { hash: hashSecret(key) } });
  if (row === null || row.revokedAt !== null) return null;
  return { merchantId: row.merchantId, role: row.role as Role };
}

/** The account that `/callbacks/{channel}[/{accountId}]` speaks of. */
export async function findChannelAccount(
  db: LedgerClient,
  channel: string,
  accountId: string | undefined,
): Promise<ChannelAccount | null> {
  return await db.channelAccount.findFirst({
    where: accountId === undefined ? { channel, isDefault: true } : { channel, id: accountId },
  });
}
