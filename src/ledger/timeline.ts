import type { Prisma } from '../generated/prisma/client.ts';
import type { LedgerTx } from './client.ts';

/** The kinds of timeline entries. An entry's `detail` is a sentence for a support engineer. */
export type TimelineKind =
  | 'transition'
  | 'channel'
  | 'callback'
  | 'query'
  | 'hint'
  | 'order'
  | 'delivery'
  | 'refund'
  | 'attention'
  | 'manual'
  | 'sweep';

/** A timeline entry that is not written yet. */
export interface Note {
  readonly kind: TimelineKind;
  readonly detail: string;
  readonly at: Date;
  readonly data: Prisma.InputJsonObject;
}

export const aNote = (
  kind: TimelineKind,
  detail: string,
  at: Date,
  data: Prisma.InputJsonObject = {},
): Note => ({ kind, detail, at, data });

export async function note(
  tx: LedgerTx,
  paymentId: string,
  kind: TimelineKind,
  detail: string,
  at: Date,
  data: Prisma.InputJsonObject = {},
): Promise<void> {
  await tx.timelineEntry.create({ data: { paymentId, kind, detail, at, data } });
}
