import {
  type AccountMode,
  type ConfiguredAccount,
  type Credentials,
  FIRST_ACCOUNT,
  type ChannelAccount as PortAccount,
} from '../domain/channel.ts';
import { newChannelAccountId, newChannelCredentialsId } from '../domain/ids.ts';
import { UnreadableSecret } from '../encryption.ts';
import { Prisma } from '../generated/prisma/client.ts';
import type { LedgerClient, LedgerTx } from './client.ts';
import type { ChannelAccount, ChannelCredentials } from './rows.ts';
import { hintOf, openCredentials, sealCredentials } from './sealed-credentials.ts';

/**
 * This file stores the merchants' accounts at channels and their credentials. During a rotation an account has several
 * sets of credentials, newest first.
 */

/** A channel account as nodrop passes it to an adapter, with its valid credentials decrypted. */
export interface OpenedAccount extends PortAccount {
  readonly ownsChannelAddress: boolean;
  readonly createdAt: Date;
}

/** A channel account with its valid credentials in the stored, encrypted form. */
type SealedAccount = ChannelAccount & { readonly credentials: readonly ChannelCredentials[] };
type Sealed = Pick<ChannelCredentials, 'accountId' | 'ciphertext'>;
/** An account with its encrypted credentials and its merchant's name. */
export type ListedAccount = SealedAccount & { readonly merchant: { readonly name: string } };

const valid = (now: Date) => ({
  where: { OR: [{ expiresAt: null }, { expiresAt: { gt: now } }] },
  orderBy: [{ createdAt: 'desc' as const }, { id: 'desc' as const }],
});

/** Serializes processes that create or change accounts of one channel. */
const lockChannel = (tx: LedgerTx, channel: string) =>
  tx.$queryRaw`SELECT 1 FROM pg_advisory_xact_lock(hashtext(${`nodrop-account-${channel}`}))`;

/**
 * Decrypts an account's credentials with this NODROP_SECRET. Older sets that were encrypted with a former NODROP_SECRET
 * are skipped, because the newest set is enough to call the channel.
 * @throws UnreadableSecret if the newest set cannot be read.
 */
function opened(nodropSecret: string, sealed: readonly Sealed[]): Credentials[] {
  return sealed.flatMap(({ accountId, ciphertext }, place) => {
    try {
      return [openCredentials(nodropSecret, accountId, ciphertext)];
    } catch (error) {
      if (place > 0 && error instanceof UnreadableSecret) return [];
      throw error;
    }
  });
}

/** Returns the valid credentials of an account, newest first. @throws UnreadableSecret */
export async function readCredentials(
  db: LedgerClient | LedgerTx,
  nodropSecret: string,
  accountId: string,
  now: Date,
): Promise<Credentials[]> {
  const sealed = await db.channelCredentials.findMany({
    where: { accountId, ...valid(now).where },
    orderBy: valid(now).orderBy,
  });
  return opened(nodropSecret, sealed);
}

/**
 * Reads accounts and their credentials in one statement. The read must be cheap, because any unauthenticated callback
 * triggers it.
 */
async function readOpened(
  db: LedgerClient,
  which: Prisma.Sql,
  now: Date,
  open: (sealed: readonly Sealed[]) => readonly Credentials[],
): Promise<OpenedAccount[]> {
  const rows = await db.$queryRaw<
    (Omit<OpenedAccount, 'credentials'> & { sealed: { accountId: string; base64: string }[] })[]
  >`
    SELECT id, merchant_id AS "merchantId", channel, is_default AS "ownsChannelAddress", created_at AS "createdAt", (
      SELECT COALESCE(jsonb_agg(
        jsonb_build_object('accountId', account_id, 'base64', encode(ciphertext, 'base64'))
        ORDER BY created_at DESC, id DESC), '[]')
      FROM channel_credentials
      WHERE account_id = account.id AND (expires_at IS NULL OR expires_at > ${now})
    ) AS sealed
    FROM channel_accounts AS account ${which}`;
  return rows.map(({ sealed, ...account }) => ({
    ...account,
    credentials: open(
      sealed.map(({ accountId, base64 }) => ({ accountId, ciphertext: Buffer.from(base64, 'base64') })),
    ),
  }));
}

/** Finds the account that the path `/callbacks/{channel}[/{accountId}]` names. @throws UnreadableSecret */
export async function findChannelAccount(
  db: LedgerClient,
  nodropSecret: string,
  channel: string,
  accountId: string | undefined,
  now: Date,
): Promise<OpenedAccount | null> {
  const which = accountId === undefined ? Prisma.sql`is_default` : Prisma.sql`id = ${accountId}`;
  const [account] = await readOpened(db, Prisma.sql`WHERE channel = ${channel} AND ${which}`, now, (sealed) =>
    opened(nodropSecret, sealed),
  );
  return account ?? null;
}

/**
 * Lists the channel accounts that were created at `madeSince` or later, oldest first. The list includes the accounts of
 * all merchants. If the credentials of an account cannot be read, the account is listed without credentials.
 */
export async function listChannelAccounts(
  db: LedgerClient,
  nodropSecret: string,
  madeSince: Date,
  now: Date,
): Promise<OpenedAccount[]> {
  const which = Prisma.sql`WHERE created_at >= ${madeSince} ORDER BY created_at`;
  return await readOpened(db, which, now, (sealed) =>
    isReadable(nodropSecret, sealed) ? opened(nodropSecret, sealed) : [],
  );
}

function isReadable(nodropSecret: string, sealed: readonly Sealed[]): boolean {
  try {
    opened(nodropSecret, sealed);
    return true;
  } catch (error) {
    if (!(error instanceof UnreadableSecret)) throw error;
    return false;
  }
}

/** Lists every channel account with its merchant's name, sorted by merchant, channel and name. */
export async function listAccounts(db: LedgerClient, now: Date): Promise<ListedAccount[]> {
  return await db.channelAccount.findMany({
    include: { credentials: valid(now), merchant: { select: { name: true } } },
    orderBy: [{ merchant: { name: 'asc' } }, { channel: 'asc' }, { name: 'asc' }],
  });
}

/** Lists the enabled accounts whose newest credentials were not encrypted with the current NODROP_SECRET. */
export async function unreadableAccounts(
  db: LedgerClient,
  nodropSecret: string,
  now: Date,
): Promise<ListedAccount[]> {
  return (await listAccounts(db, now)).filter(
    ({ disabledAt, credentials }) => disabledAt === null && !isReadable(nodropSecret, credentials),
  );
}

/**
 * Creates an account for the merchant at each given channel where the merchant has none. The first account of a channel
 * receives the callbacks of `/callbacks/{channel}`.
 */
export async function ensureAccounts(
  db: LedgerClient,
  merchantId: string,
  channels: readonly string[],
): Promise<void> {
  for (const channel of channels) {
    await db.$transaction(async (tx) => {
      await lockChannel(tx, channel);
      const ownsChannelAddress =
        (await tx.channelAccount.count({ where: { channel, ownsChannelAddress: true } })) === 0;
      await tx.channelAccount.createMany({
        data: { id: newChannelAccountId(), merchantId, channel, name: FIRST_ACCOUNT, ownsChannelAddress },
        skipDuplicates: true,
      });
    });
  }
}

/**
 * Stores the channels' credentials from the deployment's settings in the account `main` of every merchant. If the
 * settings equal the stored credentials, nothing changes. Otherwise the new credentials replace the stored ones
 * immediately.
 */
export async function storeConfigured(
  db: LedgerClient,
  configured: readonly ConfiguredAccount[],
  nodropSecret: string,
  now: Date,
): Promise<void> {
  for (const { channel, credentials } of configured) {
    await db.$transaction(async (tx) => {
      await lockChannel(tx, channel);
      const accounts = await tx.channelAccount.findMany({
        where: { channel, name: FIRST_ACCOUNT },
        include: { credentials: valid(now) },
      });
      const stale = accounts.filter(
        (account) => account.credentials[0]?.hint !== hintOf(nodropSecret, account.id, credentials),
      );
      if (stale.length === 0) return;
      await expire(
        tx,
        stale.map(({ id }) => id),
        now,
      );
      for (const { id } of stale) {
        const at = await newestAt(tx, id, now);
        await tx.channelCredentials.create({ data: rowOf(nodropSecret, id, credentials, at) });
      }
    });
  }
}

const rowOf = (nodropSecret: string, accountId: string, credentials: Credentials, createdAt: Date) => ({
  id: newChannelCredentialsId(),
  accountId,
  ciphertext: sealCredentials(nodropSecret, accountId, credentials),
  hint: hintOf(nodropSecret, accountId, credentials),
  createdAt,
});

/**
 * Returns the creation time for a new set of credentials. It is later than the creation times of the account's existing
 * sets. The current time alone could be too early, because the clocks of processes can differ. The caller must hold the
 * channel's lock.
 */
async function newestAt(tx: LedgerTx, accountId: string, now: Date): Promise<Date> {
  const { _max: newest } = await tx.channelCredentials.aggregate({
    where: { accountId },
    _max: { createdAt: true },
  });
  return new Date(Math.max(now.getTime(), (newest.createdAt?.getTime() ?? 0) + 1));
}

/** Makes all credentials of the accounts expire at `expiresAt`. Credentials that expire earlier do not change. */
async function expire(tx: LedgerTx, accountIds: readonly string[], expiresAt: Date): Promise<void> {
  await tx.channelCredentials.updateMany({
    where: {
      accountId: { in: [...accountIds] },
      OR: [{ expiresAt: null }, { expiresAt: { gt: expiresAt } }],
    },
    data: { expiresAt },
  });
}

export interface NewAccount {
  readonly merchantId: string;
  readonly channel: string;
  readonly name: string;
  readonly mode: AccountMode;
  readonly credentials: Credentials;
  /**
   * If true, payments that name no account use this account from now on. A merchant's first account at a channel is
   * always the default.
   */
  readonly isMerchantDefault: boolean;
}

/** Creates an account at a channel. @returns null if the merchant has an account of this name at the channel. */
export async function addAccount(
  db: LedgerClient,
  { credentials, ...given }: NewAccount,
  nodropSecret: string,
  now: Date,
): Promise<ChannelAccount | null> {
  const { merchantId, channel, name } = given;
  return await db.$transaction(async (tx) => {
    await lockChannel(tx, channel);
    const others = await tx.channelAccount.findMany({ where: { merchantId, channel } });
    if (others.some((other) => other.name === name)) return null;
    const isMerchantDefault = given.isMerchantDefault || !others.some((other) => other.isMerchantDefault);
    if (isMerchantDefault) await clearDefault(tx, { merchantId, channel });
    const account = await tx.channelAccount.create({
      data: { ...given, id: newChannelAccountId(), isMerchantDefault, createdAt: now },
    });
    await tx.channelCredentials.create({ data: rowOf(nodropSecret, account.id, credentials, now) });
    return account;
  });
}

const clearDefault = (tx: LedgerTx, which: { merchantId: string; channel: string }) =>
  tx.channelAccount.updateMany({
    where: { ...which, isMerchantDefault: true },
    data: { isMerchantDefault: false },
  });

/**
 * Adds a set of credentials to an account. All further calls to the channel use this set.
 * @param change makes the new set from the newest set, or from `{}` if there is no set or the newest set cannot be read
 * @param oldUntil the older sets are valid until this time at the latest. If it is null, their validity does not
 *   change.
 */
export async function rotateCredentials(
  db: LedgerClient,
  { id: accountId, channel }: Pick<ChannelAccount, 'id' | 'channel'>,
  change: (current: Credentials) => Credentials,
  oldUntil: Date | null,
  nodropSecret: string,
  now: Date,
): Promise<void> {
  await db.$transaction(async (tx) => {
    await lockChannel(tx, channel);
    const [current = {}] = await readCredentials(tx, nodropSecret, accountId, now).catch((error: unknown) => {
      // The newest set cannot be read, so its fields cannot be kept. Therefore `change` must supply every field of the
      // new set.
      if (!(error instanceof UnreadableSecret)) throw error;
      return [];
    });
    const credentials = change(current);
    if (oldUntil !== null) await expire(tx, [accountId], oldUntil);
    const at = await newestAt(tx, accountId, now);
    await tx.channelCredentials.create({ data: rowOf(nodropSecret, accountId, credentials, at) });
  });
}

/**
 * Keeps the newest set of an account, and makes all its other sets expire at `until` at the latest.
 * @returns the number of sets whose expiry changed
 */
export async function dropOldCredentials(
  db: LedgerClient,
  accountId: string,
  until: Date,
  now: Date,
): Promise<number> {
  return await db.$transaction(async (tx) => {
    const [, ...old] = await tx.channelCredentials.findMany({
      where: { accountId, ...valid(now).where },
      orderBy: valid(now).orderBy,
      select: { id: true },
    });
    const { count } = await tx.channelCredentials.updateMany({
      where: { id: { in: old.map(({ id }) => id) }, OR: [{ expiresAt: null }, { expiresAt: { gt: until } }] },
      data: { expiresAt: until },
    });
    return count;
  });
}

/** The changes of a channel account. A field that is left out keeps its value. */
export interface AccountChange {
  /** Whether the account accepts new trades. */
  readonly isEnabled?: boolean;
  /** True if payments that name no account use this account. */
  readonly isMerchantDefault?: true;
}

export async function changeAccount(
  db: LedgerClient,
  { id, merchantId, channel, disabledAt }: ChannelAccount,
  { isEnabled, isMerchantDefault }: AccountChange,
  now: Date,
): Promise<void> {
  await db.$transaction(async (tx) => {
    await lockChannel(tx, channel);
    if (isMerchantDefault) await clearDefault(tx, { merchantId, channel });
    await tx.channelAccount.update({
      where: { id },
      data: {
        ...(isMerchantDefault ? { isMerchantDefault } : {}),
        ...(isEnabled === undefined ? {} : { disabledAt: isEnabled ? null : (disabledAt ?? now) }),
      },
    });
  });
}
