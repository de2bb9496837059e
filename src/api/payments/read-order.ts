import DataLoader from 'dataloader';
import { Refusal } from '../../domain/refusal.ts';
import { findOrders, type OrderName, type OrderWithPayments } from '../../ledger/queries.ts';
import type { Api } from '../api-deps.ts';
import { orderId } from '../schemas/common.ts';

/**
 * @returns what reads an order of a merchant, however many do so at a moment in one statement; it throws Refusal `order_not_found`.
 */
export function createReadOrder({ db }: Pick<Api, 'db'>) {
  const orders = new DataLoader((names: readonly OrderName[]) => findOrders(db, names), { cache: false });
  return async (merchantId: string, id: string): Promise<OrderWithPayments> => {
    // An id that no order can have would only be an error in the database.
    const found = orderId.safeParse(id).success ? await orders.load({ merchantId, orderId: id }) : null;
    if (found === null) throw new Refusal('order_not_found', `There is no order ${id}.`);
    return found;
  };
}
