import { readFileSync, renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { configuredAccounts } from '../channels/configured.ts';
import type { Config } from '../config.ts';
import { storeConfigured } from '../ledger/channel-accounts.ts';
import { createLedgerClient, type LedgerClient } from '../ledger/client.ts';
import { Connection } from '../ledger/connection.ts';
import { isDatabaseUnavailable } from '../ledger/database-errors.ts';
import {
  createApiKey,
  ensureMerchant,
  findCaller,
  findOrderService,
  setMerchant,
} from '../ledger/merchants.ts';
import { requireSecret, WrongSecret } from '../ledger/secret-fingerprint.ts';
import { ORDER_ID } from '../order-service/client.ts';
import { reason, StackError } from './errors.ts';

/**
 * The name of the example shop's merchant. The shop must not share a merchant, because it answers "no such order" for
 * orders that it did not create.
 */
export const SHOP_MERCHANT = 'example-shop';

const DATABASE = 'nodrop_shop';

export function shopUrl({ shop }: Pick<Config, 'shop'>): string {
  return `http://127.0.0.1:${shop.port}`;
}

/**
 * Sets up the example shop on the embedded database: the shop's own database, its merchant with a key, and the shop as
 * the merchant's order service. Parts that already exist are kept.
 * @returns the shop's environment
 * @throws StackError when the database cannot be used, WrongSecret when the database was written with another
 * NODROP_SECRET
 */
export async function prepareShop(config: Config): Promise<Readonly<Record<string, string>>> {
  const db = createLedgerClient(config.databaseUrl);
  try {
    await requireSecret(db, config);
    const configured = configuredAccounts(config);
    const now = new Date();
    const { merchant } = await ensureMerchant(
      db,
      SHOP_MERCHANT,
      configured.map(({ channel }) => channel),
    );
    await storeConfigured(db, configured, config.secret, now);
    const url = shopUrl(config);
    const settings = {
      orderServiceUrl: `${url}/nodrop/events`,
      orderStatusUrl: `${url}/nodrop/orders/${ORDER_ID}`,
    };
    await setMerchant(db, SHOP_MERCHANT, settings, config.secret, now);
    const service = await findOrderService(db, merchant.id, config.secret, now);
    return {
      SHOP_PORT: String(config.shop.port),
      SHOP_DATABASE_URL: await ensureDatabase(config.databaseUrl),
      SHOP_NODROP_URL: config.api.publicUrl,
      SHOP_NODROP_KEY: await ensureKey(db, merchant.id, join(config.home, 'shop.key')),
      SHOP_WEBHOOK_SECRET: service?.secrets[0] ?? '',
    };
  } catch (error) {
    if (error instanceof WrongSecret) throw error;
    throw new StackError(
      isDatabaseUnavailable(error)
        ? 'The shop cannot be set up without the database: start the database (npm run stack), and try again.'
        : `The shop cannot be set up: ${reason(error)}`,
    );
  } finally {
    await db.$disconnect();
  }
}

async function ensureDatabase(ledgerUrl: string): Promise<string> {
  const client = new Connection({ connectionString: ledgerUrl, connectionTimeoutMillis: 5_000 });
  await client.connect();
  try {
    const { rowCount } = await client.query('select 1 from pg_database where datname = $1', [DATABASE]);
    if (rowCount === 0) await client.query(`create database ${DATABASE}`);
  } finally {
    await client.end();
  }
  const url = new URL(ledgerUrl);
  url.pathname = `/${DATABASE}`;
  return url.href;
}

/** Keeps the API key in a file that only its owner can read, because the ledger stores only the key's hash. */
async function ensureKey(db: LedgerClient, merchantId: string, file: string): Promise<string> {
  const kept = readKey(file);
  if (kept !== undefined && (await findCaller(db, kept))?.merchantId === merchantId) return kept;
  const { key } = await createApiKey(db, merchantId, 'merchant');
  const draft = `${file}.${process.pid}`;
  writeFileSync(draft, key, { mode: 0o600 });
  renameSync(draft, file);
  return key;
}

function readKey(file: string): string | undefined {
  try {
    return readFileSync(file, 'utf8').trim();
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw error;
  }
}
