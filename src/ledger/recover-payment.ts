import type { PaymentTerms } from '../domain/payment.ts';
import { matchCallbacksOf } from './callbacks.ts';
import type { LedgerClient, LedgerTx } from './client.ts';
import { isUnfilled } from './new-payment.ts';
import { visibleTransaction } from './notify.ts';
import { lockOrder } from './order-row.ts';
import type { ChannelAccount, Order, Payment } from './rows.ts';
import { note } from './timeline.ts';

/**
 * Restores rows from the input of their workflows. The rows were lost because a commit was lost or an older backup was
 * restored.
 */

/** The row cannot be restored in the current state. The message is a sentence for the operator. */
export class NotRecoverable extends Error {
  override readonly name = 'NotRecoverable';
}

/**
 * Restores a lost payment. If the payment's order is also lost, restores the order. The restored payment is `paying`
 * with cancellation requested, and has no next action. Therefore its workflow queries the channel. If the payment is
 * paid, it is settled. Otherwise it is closed. Payment and order get `recoveredAt`. Stored callbacks that arrived while
 * the row was missing are matched to the payment. If the payment exists, nothing changes.
 * @throws NotRecoverable, TooBusy
 */
export async function recoverPayment(
  db: LedgerClient,
  terms: PaymentTerms,
  clientTokenHash: string,
  now: Date,
): Promise<{ payment: Payment; written: boolean }> {
  const recovered = await visibleTransaction(db, terms.merchantId, terms.orderId, (tx) =>
    write(tx, terms, clientTokenHash, now),
  );
  await matchCallbacksOf(db, recovered.payment, now);
  return recovered;
}

async function write(
  tx: LedgerTx,
  terms: PaymentTerms,
  clientTokenHash: string,
  now: Date,
): Promise<{ payment: Payment; written: boolean }> {
  const { paymentId: id, merchantId, orderId, channel, channelAccountId, method, currency } = terms;
  const amount = BigInt(terms.amount);
  const createdAt = new Date(terms.createdAt);
  const account = await requireOwner(tx, terms);
  await tx.order.createMany({
    data: {
      merchantId,
      id: orderId,
      amount,
      currency,
      subject: '',
      status: 'paying',
      createdAt,
      recoveredAt: now,
    },
    skipDuplicates: true,
  });
  const order = await lockOrder(tx, merchantId, orderId);
  const there = await tx.payment.findUnique({ where: { id } });
  if (there !== null) return { payment: there, written: false };
  const attempt = { merchantId, orderId, channel, method };
  const live = await tx.payment.findFirst({ where: { ...attempt, status: { in: ['created', 'paying'] } } });
  if (live !== null) {
    throw new NotRecoverable(
      `payment ${live.id} of the same order, channel and method is live: recover this payment after that one has ended`,
    );
  }
  const { adoption } = terms;
  const holder =
    adoption === undefined
      ? null
      : await tx.payment.findFirst({ where: { channelAccountId, reference: adoption.reference } });
  if (holder !== null) {
    throw new NotRecoverable(
      `its trade ${adoption?.reference} has been adopted again, by payment ${holder.id}: there is nothing to recover`,
    );
  }
  await tx.order.update({
    where: { merchantId_id: { merchantId, id: orderId } },
    data: {
      recoveredAt: order?.recoveredAt ?? now,
      ...(order?.status === 'unpaid' ? { status: 'paying' } : {}),
      ...(order !== null && (await isNewestOfLost(tx, order, createdAt)) ? { amount, currency } : {}),
    },
  });
  const payment = await tx.payment.create({
    data: {
      ...attempt,
      ...{ id, channelAccountId, account: account.name, amount, currency, clientTokenHash, createdAt },
      status: 'paying',
      cancelRequestedAt: now,
      recoveredAt: now,
      expiresAt: new Date(terms.expiresAt),
      ...(adoption === undefined ? {} : { reference: adoption.reference, adopted: adoption.as }),
    },
  });
  await note(
    tx,
    id,
    'manual',
    'Recovered: the database had lost the payment. The channel is queried, then the payment is cancelled.',
    now,
  );
  return { payment, written: true };
}

/**
 * True if this is the newest attempt of a lost order, so that its amount becomes the order's amount. The order's amount
 * may have been changed between two attempts. If it was changed after the newest attempt, the merchant has to change it
 * again.
 */
async function isNewestOfLost(tx: LedgerTx, order: Order, createdAt: Date): Promise<boolean> {
  const { merchantId, id: orderId, status } = order;
  if (!isUnfilled(order) || (status !== 'unpaid' && status !== 'paying')) return false;
  return (await tx.payment.count({ where: { merchantId, orderId, createdAt: { gt: createdAt } } })) === 0;
}

/**
 * The merchant and the account must exist, because otherwise neither the channel nor the order service can be called.
 * @returns the payment's account
 */
async function requireOwner(
  tx: LedgerTx,
  { merchantId, channelAccountId, channel }: PaymentTerms,
): Promise<ChannelAccount> {
  const merchant = await tx.merchant.findUnique({ where: { id: merchantId }, select: { id: true } });
  if (merchant === null) throw new NotRecoverable(`its merchant ${merchantId} is not in the database`);
  const account = await tx.channelAccount.findUnique({ where: { id: channelAccountId } });
  if (account === null || account.merchantId !== merchantId || account.channel !== channel) {
    throw new NotRecoverable(`its account ${channelAccountId} at channel ${channel} is not in the database`);
  }
  return account;
}
