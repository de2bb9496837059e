import type { LatePayment } from '../domain/decision.ts';
import type { LedgerClient } from '../ledger/client.ts';
import { findMerchants, setLatePayment } from '../ledger/merchants.ts';
import { CommandError } from './errors.ts';
import { table } from './table.ts';

/** The lines that `merchants list` prints. */
export async function listMerchants(db: LedgerClient): Promise<string[]> {
  const merchants = await findMerchants(db);
  if (merchants.length === 0) return ['There are no merchants: keys create --merchant NAME makes one.'];
  const rows = merchants.map((merchant) => [
    merchant.id,
    merchant.name,
    merchant.latePayment,
    merchant.channelAccounts.map(({ channel }) => channel).join(', '),
    merchant.createdAt.toISOString(),
  ]);
  return table([['ID', 'MERCHANT', 'LATE PAYMENT', 'CHANNELS', 'CREATED'], ...rows]);
}

/** The lines that `merchants set` prints. @throws CommandError */
export async function setMerchant(
  db: LedgerClient,
  name: string,
  latePayment: LatePayment,
): Promise<string[]> {
  if (!(await setLatePayment(db, name, latePayment))) {
    throw new CommandError(`There is no merchant ${name}: merchants list shows them.`);
  }
  return [`Merchant ${name}: late payments are from now on: ${latePayment}.`];
}
