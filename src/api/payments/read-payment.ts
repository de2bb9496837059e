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

/** The shape of the ids we make: anything else is not asked of the database. */
export const mayBePaymentId = (id: string): boolean => /^[0-9A-Za-z_]{1,32}$/.test(id);

/** The payment with this id, or null for an id that no payment can have. */
export async function findPaymentById(api: Pick<Api, 'db'>, id: string): Promise<PaymentWithRefund | null> {
  return mayBePaymentId(id) ? await findPayment(api.db, id) : null;
}

/**
 * The payment that the token opens, or null. A token that we would make now is known by itself; any other is looked up
 * within the bound of its address, as one may have been made with an earlier `NODROP_SECRET`.
 * @param find reads the payment
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

/** @returns what reads a payment for somebody; it throws Refusal `payment_not_found`, `unauthorized` or `too_many_requests`. */
export function createReadPayment(api: Pick<Api, 'config' | 'db' | 'failedLookups' | 'now'>) {
  return async (access: Access, id: string): Promise<PaymentWithRefund> => {
    const find = () => findPaymentById(api, id);
    const row = access.kind === 'key' ? await find() : await findPaymentByToken(api, access, id, find);
    return requireAccess(row, access, id, api.now());
  };
}
