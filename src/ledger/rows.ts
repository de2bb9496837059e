import type { Prisma } from '../generated/prisma/client.ts';
import type { LedgerClient } from './client.ts';

/** Row types. Text columns whose values a CHECK lists have the domain's types (see client.ts). */

type Row<Model extends keyof LedgerClient> = Prisma.Result<LedgerClient[Model], object, 'findUniqueOrThrow'>;

export type ChannelAccount = Row<'channelAccount'>;
export type Merchant = Row<'merchant'>;
export type Order = Row<'order'>;
export type Payment = Row<'payment'>;
export type Refund = Row<'refund'>;
export type Event = Row<'event'>;
export type Delivery = Row<'delivery'>;
export type DeliveryAttempt = Row<'deliveryAttempt'>;
export type {
  Callback,
  ChannelCredentials,
  SigningSecret,
  TimelineEntry,
} from '../generated/prisma/client.ts';
