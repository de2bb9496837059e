import DataLoader from 'dataloader';
import { Refusal } from '../../domain/refusal.ts';
import { findOrders, type OrderName, type OrderWithPayments } from '../../ledger/queries.ts';
import type { Api } from '../api-deps.ts';
import { orderId } from '../schemas/common.ts';

/**
 * @returns a function that reads an order of a merchant. Concurrent reads share one SQL statement. The function throws
 * Refusal `order_not_found`.
 */
export function createReadOrder({ db }: Pick<Api, 'db'>) {
  const orders = new DataLoader((names: readonly OrderName[]) => findOrders(db, names), { cache: false });
  return async (merchantId: string, id: string): Promise<OrderWithPayments> => {
    // An id in another format cannot belong to an order, and some of these ids would cause a database error.
    const found = orderId.safeParse(id).success ? await orders.load({ merchantId, orderId: id }) : null;
    if (found === null) throw new Refusal('order_not_found', `There is no order ${id}.`);
    return found;
  };
}
