import type { CurrencyCode } from './money.ts';
import type { RefundReason, RefundStatus } from './states.ts';

/**
 * The row as workflows see it. It goes into Temporal's histories: ids, states and amounts only. Times are epoch
 * milliseconds, amounts minor units.
 */
export interface RefundSnapshot {
  readonly id: string;
  readonly paymentId: string;
  readonly orderId: string;
  readonly channel: string;
  readonly amount: number;
  readonly currency: CurrencyCode;
  readonly status: RefundStatus;
  readonly reason: RefundReason;
  readonly createdAt: number;
  /** Since when the channel has been silent on it, or has not known it; null before it was asked and while it answers. */
  readonly unknownSince: number | null;
}
