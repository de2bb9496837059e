import type { Payment } from '../ledger/rows.ts';

/** The public callback URL of the channel account with which a payment was made. */
export const callbackAddressOf = (
  { channel, channelAccountId }: Pick<Payment, 'channel' | 'channelAccountId'>,
  publicUrl: string,
): string => `${publicUrl}/callbacks/${channel}/${channelAccountId}`;
