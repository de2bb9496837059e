import type { ChannelAccount, Trade, TradeReference } from '../domain/channel.ts';
import type { LedgerClient, LedgerTx } from './client.ts';
import type { Payment } from './rows.ts';

/** The payment data that nodrop passes to an adapter. All of it comes from the payment's row. */

/** The payment's trade. */
export const tradeOf = (payment: Payment): Trade => ({
  outTradeNo: (payment.adopted === null ? null : payment.reference) ?? payment.id,
  ...(payment.adopted === null ? {} : { isAdopted: true }),
  method: payment.method,
  amount: Number(payment.amount),
  currency: payment.currency,
  createdAt: payment.createdAt.toISOString(),
  expiresAt: payment.expiresAt.toISOString(),
  ...(payment.createAskedAt === null ? {} : { askedAt: payment.createAskedAt.toISOString() }),
  reference: referenceOf(payment),
  ...(payment.channelPaymentId === null ? {} : { channelPaymentId: payment.channelPaymentId }),
});

function referenceOf({ reference, referenceData }: Payment): TradeReference | null {
  if (reference === null) return null;
  return {
    id: reference,
    ...(referenceData === null ? {} : { data: referenceData as NonNullable<TradeReference['data']> }),
  };
}

/** The account that the payment was made with. */
export const accountOf = ({ channelAccountId: id, merchantId, channel }: Payment): ChannelAccount => ({
  id,
  merchantId,
  channel,
  credentials: [],
});

/**
 * @param channelPaymentId the channel's payment id, which identifies the received money across all accounts of the
 *   channel
 * @param besides the id of a payment that the search leaves out
 * @returns a payment that has received this money, if there is one
 */
export const findReceived = async (
  db: LedgerClient | LedgerTx,
  channel: string,
  channelPaymentId: string,
  besides?: string,
): Promise<Payment | null> =>
  await db.payment.findFirst({
    where: {
      // The condition lists all accounts of the channel, because the index on these ids begins with the account.
      channelAccountId: {
        in: (await db.channelAccount.findMany({ where: { channel }, select: { id: true } })).map(
          ({ id }) => id,
        ),
      },
      channelPaymentId,
      receivedAmount: { not: null },
      ...(besides === undefined ? {} : { id: { not: besides } }),
    },
  });
