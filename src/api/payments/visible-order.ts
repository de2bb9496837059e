import { Refusal } from '../../domain/refusal.ts';
import { findOrder, type OrderWithPayments } from '../../ledger/views.ts';
import type { Api } from '../deps.ts';
import { orderId } from '../schemas/common.ts';

/** @returns what reads an order of a merchant; it throws Refusal `order_not_found`. */
export function createVisibleOrder({ db }: Pick<Api, 'db'>) {
  return async (merchantId: string, id: string): Promise<OrderWithPayments> => {
    // An id that no order can have would only be an error in the database.
    const found = orderId.safeParse(id).success ? await findOrder(db, merchantId, id) : null;
    if (found === null) throw new Refusal('order_not_found', `There is no order ${id}.`);
    return found;
  };
}
