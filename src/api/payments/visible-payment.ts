import { findPayment, type PaymentWithRefund } from '../../ledger/views.ts';
import type { Api } from '../deps.ts';
import { type Access, requireVisible } from '../endpoint/auth.ts';

/** The shape of the ids we make: anything else is not asked of the database. */
export const isPaymentId = (id: string): boolean => /^[0-9A-Za-z_]{1,32}$/.test(id);

/** The payment with this id, or null for an id that no payment can have. */
export async function lookUpPayment(api: Pick<Api, 'db'>, id: string): Promise<PaymentWithRefund | null> {
  return isPaymentId(id) ? await findPayment(api.db, id) : null;
}

/** @returns what reads a payment for somebody; it throws Refusal `payment_not_found` or `unauthorized`. */
export function createVisiblePayment(api: Pick<Api, 'db' | 'now'>) {
  return async (access: Access, id: string): Promise<PaymentWithRefund> =>
    requireVisible(await lookUpPayment(api, id), access, id, api.now());
}
