import type { Payment } from '../ledger/rows.ts';

/** The callback address of the account that a payment was made with, as channels reach it. */
export const callbackAddressOf = (
  { channel, channelAccountId }: Pick<Payment, 'channel' | 'channelAccountId'>,
  publicUrl: string,
): string => `${publicUrl}/callbacks/${channel}/${channelAccountId}`;
