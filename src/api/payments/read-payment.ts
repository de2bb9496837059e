import { clientToken, hashSecret } from '../../client-token.ts';
import { findPayment, type PaymentWithRefund } from '../../ledger/queries.ts';
import type { Payment } from '../../ledger/rows.ts';
import type { Api } from '../api-deps.ts';
import {
  type Access,
  isSameHash,
  opens,
  requireAccess,
  type TokenAccess,
  tokenName,
} from '../endpoint/auth.ts';

/** True if the id has the format of payment ids. nodrop does not query the database for any other id. */
export const mayBePaymentId = (id: string): boolean => /^[0-9A-Za-z_]{1,32}$/.test(id);

/** Finds the payment with this id. Returns null without a query if no payment can have this id. */
export async function findPaymentById(api: Pick<Api, 'db'>, id: string): Promise<PaymentWithRefund | null> {
  return mayBePaymentId(id) ? await findPayment(api.db, id) : null;
}

/**
 * The payment that the token opens, or null. nodrop checks a token of the current `NODROP_SECRET` in memory. Any other
 * token may come from an earlier secret, so nodrop looks it up in the database. Wrong tokens count against the limit of
 * the sender's address.
 * @param find reads the payment from the database
 * @throws Refusal `too_many_requests`
 */
export async function findPaymentByToken<T extends Payment>(
  { config, failedLookups, now }: Pick<Api, 'config' | 'failedLookups' | 'now'>,
  { address, hash, mayWait }: TokenAccess,
  id: string,
  find: () => Promise<T | null>,
): Promise<T | null> {
  if (!mayBePaymentId(id)) return null;
  const open = async () => {
    const payment = await find();
    return payment !== null && opens(hash, payment, now()) ? payment : null;
  };
  if (isSameHash(hash, hashSecret(clientToken(config.secret, id)))) return await open();
  return await failedLookups.lookUp(address, tokenName({ paymentId: id, hash }), open, mayWait);
}

/**
 * @returns a function that reads a payment for a caller. The function throws Refusal `payment_not_found`,
 * `unauthorized` or `too_many_requests`.
 */
export function createReadPayment(api: Pick<Api, 'config' | 'db' | 'failedLookups' | 'now'>) {
  return async (access: Access, id: string): Promise<PaymentWithRefund> => {
    const find = () => findPaymentById(api, id);
    const row = access.kind === 'key' ? await find() : await findPaymentByToken(api, access, id, find);
    return requireAccess(row, access, id, api.now());
  };
}
