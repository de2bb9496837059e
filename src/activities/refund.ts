import { activityInfo, cancellationSignal } from '@temporalio/activity';
import { ApplicationFailure } from '@temporalio/common';
import { isMoney } from '../domain/answer.ts';
import {
  ChannelError,
  type ChannelRefund,
  type KnownRefund,
  type Payer,
  type RefundAnswer,
  type Trade,
} from '../domain/channel.ts';
import { isHeldByDispute } from '../domain/dispute.ts';
import { refundNumber } from '../domain/ids.ts';
import type { PaymentSnapshot } from '../domain/payment.ts';
import {
  REFUND_HELD_BACK_ASKS_EVERY,
  REFUND_HELD_BACK_MS,
  REFUND_QUERY_MS,
  type RefundSnapshot,
} from '../domain/refund.ts';
import { isRefundOpen } from '../domain/states.ts';
import { losesMore } from '../ledger/disputes.ts';
import { saysOf } from '../ledger/external-refunds.ts';
import { tradeOfRefund } from '../ledger/known-trade.ts';
import { listedOf } from '../ledger/listed-refunds.ts';
import { isAllBack, toRefundSnapshot } from '../ledger/payment-facts.ts';
import { recordAnswer, recordMisconfigured } from '../ledger/payments.ts';
import * as answers from '../ledger/refund-answers.ts';
import { mustBeLookedFor, recordKeySpent, recordNotListed } from '../ledger/refund-keys.ts';
import { findRefund } from '../ledger/refunds.ts';
import { recordRefundsOfCallback } from '../ledger/reversals.ts';
import type { Payment, Refund } from '../ledger/rows.ts';
import { accountOf } from '../ledger/trade-of-payment.ts';
import { startDeliveries } from '../temporal/start-deliveries.ts';
import type { ActivityDeps } from './activity-deps.ts';
import { callbackAddressOf } from './callback-address.ts';
import { notYet, OWN_TROUBLE_RETRY_MS, unknownOutcome } from './failures.ts';
import { withoutPayer } from './without-payer.ts';

export interface RefundQueryInput {
  readonly refundId: string;
  /** The waits after each of the coming queries, in ms; the last repeats for ever. */
  readonly waits: readonly [number, ...number[]];
}

/** What the adapter is told of a refund that may be known there. */
const knownOf = ({ id, attempt, channelRefundId }: Refund): KnownRefund => ({
  outRefundNo: refundNumber(id, attempt),
  channelRefundId,
});

/** What a list says of a refund of ours, as an answer on it. */
function answerOf({ id: channelRefundId, outRefundNo, amount, state }: ChannelRefund): answers.RefundReport {
  const named = { channelRefundId, ...(outRefundNo === undefined ? {} : { outRefundNo }) };
  switch (state) {
    case 'succeeded':
      return { ...named, state, amount };
    case 'processing':
      return { ...named, state };
    default:
      return { ...named, state, reason: saysOf(state) };
  }
}

const WAKE_DEADLINE_MS = 2_000;

/**
 * Has the order service told of what was recorded of the payment's refunds. A payment that waited for its order service
 * and is a conflict by now is woken: its workflow waits for the time of the next attempt, up to a day, and would show
 * until then what is over. Never fails: what is not told here is the sweep's, and who is not woken finds out by itself.
 * @param before the payment as it was before that
 */
async function tell(
  { db, deliveryWorkflows, workflows }: Pick<ActivityDeps, 'db' | 'deliveryWorkflows' | 'workflows'>,
  before: Payment,
): Promise<void> {
  await startDeliveries({ db, deliveryWorkflows }, before.id);
  if (before.orderUpdate !== 'pending') return;
  try {
    const after = await db.payment.findUniqueOrThrow({ where: { id: before.id } });
    if (after.orderUpdate === 'conflict') await workflows.wake(after, WAKE_DEADLINE_MS);
  } catch {
    // It is in the ledger.
  }
}

/** The refund activities that only touch the ledger; task queue `nodrop`. */
export function refundLedgerActivities({ db, now, deliveryWorkflows, workflows }: ActivityDeps) {
  return {
    /** The row as it is: every run's first activity, as its input may be stale. Null when the row is gone. */
    async loadRefund(refundId: string): Promise<RefundSnapshot | null> {
      return await findRefund(db, refundId, await now());
    },

    /** What a verified callback says of a refund of ours. */
    async recordRefundCallback(refundId: string, callbackId: string): Promise<RefundSnapshot> {
      const { payment } = await db.refund.findUniqueOrThrow({
        where: { id: refundId },
        include: { payment: true },
      });
      const snapshot = await answers.recordRefundCallback(db, refundId, callbackId, await now());
      await tell({ db, deliveryWorkflows, workflows }, payment);
      return snapshot;
    },

    /** What a verified callback says of money that went back without our asking. */
    async recordRefunds(paymentId: string, callbackId: string): Promise<PaymentSnapshot> {
      const snapshot = await recordRefundsOfCallback(db, paymentId, callbackId, await now());
      await startDeliveries({ db, deliveryWorkflows }, paymentId);
      return snapshot;
    },
  };
}

/**
 * The refund activities that talk to a channel; task queues `channel-{name}` and, for `queryRefund`,
 * `channel-{name}-poll`. Each writes what the channel said into the ledger before it returns.
 */
export function refundChannelActivities(deps: ActivityDeps) {
  const { db, channels, publicUrl, now, deliveryWorkflows, workflows } = deps;
  const load = (refundId: string) =>
    db.refund.findUniqueOrThrow({
      where: { id: refundId },
      include: { payment: true },
    });

  type Row = Awaited<ReturnType<typeof load>>;
  type RowWithTrade = Row & { readonly trade: Trade };

  const adapterOf = ({ payment: { channel, payer } }: Pick<Row, 'payment'>) => {
    const adapter = channels.get(channel);
    if (adapter === undefined)
      throw new ChannelError('unreachable', `channel ${channel} is not configured on this worker`);
    return withoutPayer(adapter, (payer ?? {}) as Payer);
  };

  /** The refund with its trade, which is looked for when the channel's id of it is not on record. @throws ChannelError */
  const withTrade = async (row: Row): Promise<RowWithTrade> => ({
    ...row,
    trade: await tradeOfRefund({ db, now }, adapterOf(row), row.payment, cancellationSignal()),
  });

  const query = async (row: RowWithTrade): Promise<RefundAnswer> =>
    await adapterOf(row).queryRefund(accountOf(row.payment), row.trade, knownOf(row), cancellationSignal());

  const queryTrade = async (row: RowWithTrade) =>
    await adapterOf(row).queryTrade(accountOf(row.payment), row.trade, cancellationSignal());

  /**
   * What the channel knows of a refund it was not asked for yet: the ledger may have lost that it was. The trade comes
   * first: when the number is unknown after that, the trade's sum does not hold it. Money that went back unknown to us is
   * on record when this returns, and the refund's row may have changed by it.
   * @returns undefined when the channel does not know the number
   * @throws ChannelError
   */
  const lookFirst = async (row: RowWithTrade): Promise<answers.RefundReport | undefined> => {
    const trade = await queryTrade(row);
    const known = await query(row);
    if (known.state !== 'unknown_refund') return known;
    // Found in the list alone: a channel that is asked by its own id knows no number.
    const listed = isMoney(trade) ? listedOf(row, trade.refunds ?? []) : null;
    if (listed !== null) return answerOf(listed);
    await answers.recordFirstAsk(db, row.id, trade, await now());
    await tell({ db, deliveryWorkflows, workflows }, row.payment);
    return undefined;
  };

  /** A refusal that could end does not when a dispute that is lost has taken the money. */
  const isForGood = async ({ payment }: Row, { kind }: ChannelError): Promise<boolean> =>
    kind === 'rejected' || (kind === 'not_now' && (await losesMore(db, payment)));

  /**
   * Asks for the refund. A refusal counts only when the channel does not know the number either: an earlier call
   * whose answer got lost may have used up the money whose lack is now the reason of the refusal.
   */
  const ask = async (row: RowWithTrade): Promise<RefundAnswer> => {
    const { payment } = row;
    try {
      return await adapterOf(row).refundTrade(
        accountOf(payment),
        row.trade,
        {
          ...knownOf(row),
          attempt: row.attempt,
          amount: Number(row.amount),
          currency: row.currency,
          total: Number(payment.receivedAmount ?? payment.amount),
          otherRefunds: Number(payment.refundedAmount),
          notifyUrl: callbackAddressOf(payment, publicUrl),
        },
        cancellationSignal(),
      );
    } catch (error) {
      if (!(error instanceof ChannelError)) throw error;
      if (error.isReplayed && error.kind !== 'rejected')
        await recordKeySpent(db, row.id, row.attempt, error, await now());
      if (!(await isForGood(row, error))) throw error;
      const known = await query(row);
      return known.state === 'unknown_refund' ? { state: 'failed', reason: error.message } : known;
    }
  };

  /**
   * Writes the channel's answer down. With one that settles the refund goes what the trade says: somebody else may have
   * given the money back, and what told of it while ours was open was taken for ours. It is asked before anything is
   * written, as nobody would ask afterwards: while the trade is silent the refund is not settled.
   * @throws ChannelError
   */
  const record = async (row: RowWithTrade, said: answers.RefundReport): Promise<RefundSnapshot> => {
    const isLast = said.state === 'succeeded' || said.state === 'failed' || said.state === 'reversed';
    const trade = isLast ? await queryTrade(row) : undefined;
    // A refusal of what an earlier call has done, whose answer got lost, is no refusal.
    const isUnnamed = said.state === 'failed' && said.channelRefundId === undefined;
    const listed = isUnnamed && trade !== undefined && isMoney(trade) && listedOf(row, trade.refunds ?? []);
    const answer = listed ? answerOf(listed) : said;
    const snapshot = await answers.recordRefundAnswer(db, row.id, answer, await now(), trade);
    // The order service is told when this settled the refund.
    if (!isRefundOpen(snapshot.status)) await tell({ db, deliveryWorkflows, workflows }, row.payment);
    return snapshot;
  };

  /**
   * Looks for a refund that must not be asked for again unseen, by its number and in the trade's list.
   * @throws ChannelError when the channel lists nothing: then it is never asked for again
   */
  const lookFor = async (row: RowWithTrade) => {
    const known = await query(row);
    if (known.state !== 'unknown_refund' && known.state !== 'ask_again')
      return { next: 'record' as const, answer: known };
    const trade = await queryTrade(row);
    if (!isMoney(trade) || trade.refunds === undefined)
      throw new ChannelError(
        'unreachable',
        `refund ${refundNumber(row.id, row.attempt)} must not be asked for again before the trade's refunds are listed without it, and the channel lists none`,
      );
    const listed = listedOf(row, trade.refunds);
    if (listed !== null) return { next: 'record' as const, answer: answerOf(listed) };
    return await recordNotListed(db, row.id, trade, await now());
  };

  const silence = async (row: Row, error: ChannelError) => {
    await answers.recordRefundSilence(db, row.id, error, await now());
    if (error.kind === 'misconfigured')
      await recordMisconfigured(db, row.paymentId, error.message, await now());
  };

  /** The channel decides over a dispute, and may give the money back itself: then nobody owes it twice. */
  const isHeldBack = (row: Row) =>
    row.status === 'created' && row.askedAt === null && isHeldByDispute(row.payment, row.reason);

  const heldBack = () => notYet('nodrop', 'that a disputed payment is not refunded', REFUND_HELD_BACK_MS);

  /** @throws ApplicationFailure */
  const askWhileHeldBack = async (row: Row) => {
    const { paymentId, payment } = row;
    try {
      const trade = await queryTrade(await withTrade(row));
      await recordAnswer(db, paymentId, trade, 'query', await now());
    } catch (error) {
      if (error instanceof ChannelError && error.kind === 'misconfigured')
        await recordMisconfigured(db, paymentId, error.message, await now());
      throw unknownOutcome(payment.channel, error, REFUND_HELD_BACK_MS);
    }
    await tell({ db, deliveryWorkflows, workflows }, payment);
  };

  /** Records the answer. @throws ApplicationFailure when it is to be asked for again under the same number, on schedule. */
  const recordAsked = async (row: RowWithTrade, answer: answers.RefundReport): Promise<RefundSnapshot> => {
    const snapshot = await record(row, answer);
    if (answer.state !== 'ask_again' || !isRefundOpen(snapshot.status)) return snapshot;
    const nth = Math.min(activityInfo().attempt, REFUND_QUERY_MS.length);
    throw notYet(row.payment.channel, 'ask_again', REFUND_QUERY_MS[nth - 1] ?? OWN_TROUBLE_RETRY_MS);
  };

  /** @throws ChannelError, ApplicationFailure */
  const askUnlessKnown = async (row: RowWithTrade): Promise<RefundSnapshot> => {
    const isFirst = row.status === 'created' && row.askedAt === null;
    if (isFirst) {
      const known = await lookFirst(row);
      if (known !== undefined) return await recordAsked(row, known);
    } else if (mustBeLookedFor(row, adapterOf(row).declaration.repeatableForMs.refund, await now())) {
      const found = await lookFor(row);
      if (found.next === 'record') return await recordAsked(row, found.answer);
      if (found.next === 'nothing') return found.snapshot;
      if (found.next === 'look again') throw notYet(row.payment.channel, 'not_listed', found.afterMs);
    } else {
      // A list may have told of it, under an earlier key.
      const known = row.channelRefundId === null ? undefined : await query(row);
      const isToAsk = known === undefined || known.state === 'unknown_refund' || known.state === 'ask_again';
      return await recordAsked(row, isToAsk ? await ask(row) : known);
    }
    // Less is asked for now, or nothing, when money went back unknown to us; or it is asked for under another key.
    const looked = { ...(await load(row.id)), trade: row.trade };
    if (isOver(looked)) return toRefundSnapshot(looked, looked.payment);
    // The trade told of a dispute.
    if (isHeldBack(looked)) throw heldBack();
    return await recordAsked(looked, await ask(looked));
  };

  const isOver = (row: Row) => !isRefundOpen(toRefundSnapshot(row, row.payment).status);

  return {
    /**
     * Has the channel give the money back, always under the same number: asking twice gives it back once. Where that is
     * not certain any more it is looked for first, and asked for when it is certain not to be there.
     */
    async refundAtChannel(refundId: string): Promise<RefundSnapshot> {
      const row = await load(refundId);
      if (isOver(row)) return toRefundSnapshot(row, row.payment);
      if (isHeldBack(row)) {
        if (activityInfo().attempt % REFUND_HELD_BACK_ASKS_EVERY === 0) await askWhileHeldBack(row);
        throw heldBack();
      }
      try {
        return await askUnlessKnown(await withTrade(row));
      } catch (error) {
        if (error instanceof ApplicationFailure) throw error;
        if (error instanceof ChannelError) await silence(row, error);
        throw unknownOutcome(row.payment.channel, error);
      }
    },

    /**
     * What the trade says, once a callback has settled the refund: that is as old as the callback, and what told of
     * money that others gave back while ours was open was taken for ours. Asked until it answers.
     */
    async askTradeOfRefund(refundId: string): Promise<void> {
      const row = await load(refundId);
      const { payment } = row;
      // Nobody can have given back more.
      if (isAllBack(payment)) return;
      const { id, channel } = payment;
      try {
        const trade = await queryTrade(await withTrade(row));
        await recordAnswer(db, id, trade, 'query', await now());
      } catch (error) {
        if (error instanceof ChannelError && error.kind === 'misconfigured')
          await recordMisconfigured(db, id, error.message, await now());
        throw unknownOutcome(channel, error);
      }
      await tell({ db, deliveryWorkflows, workflows }, payment);
    },

    /**
     * The queries of a refund in process: one activity whose own retries are the schedule.
     * @returns when the channel has decided, or does not know the number: then it is to be asked for again.
     */
    async queryRefund(input: RefundQueryInput): Promise<{ snapshot: RefundSnapshot; known: boolean }> {
      const row = await load(input.refundId);
      if (isOver(row)) return { snapshot: toRefundSnapshot(row, row.payment), known: true };
      const wait = input.waits[activityInfo().attempt - 1] ?? input.waits.at(-1);
      const { channel } = row.payment;
      let answer: RefundAnswer;
      let snapshot: RefundSnapshot;
      try {
        const known = await withTrade(row);
        answer = await query(known);
        snapshot = await record(known, answer);
      } catch (error) {
        if (!(error instanceof ChannelError)) throw unknownOutcome(channel, error, OWN_TROUBLE_RETRY_MS);
        await silence(row, error);
        throw unknownOutcome(channel, error, wait);
      }
      const isUndecided = answer.state === 'processing' || answer.state === 'needs_person';
      if (isRefundOpen(snapshot.status) && isUndecided)
        throw notYet(channel, answer.state, wait ?? OWN_TROUBLE_RETRY_MS);
      return { snapshot, known: answer.state !== 'unknown_refund' && answer.state !== 'ask_again' };
    },

    /** A refund that succeeded may have failed since: the channel is asked about it and its trade, until it answers. */
    async lookAgainAtRefund(refundId: string): Promise<RefundSnapshot> {
      const row = await load(refundId);
      if (row.status !== 'succeeded') return toRefundSnapshot(row, row.payment);
      try {
        const known = await withTrade(row);
        const answer = await query(known);
        const trade = await queryTrade(known);
        const snapshot = await answers.recordLookAgain(db, refundId, answer, trade, await now());
        await tell({ db, deliveryWorkflows, workflows }, row.payment);
        return snapshot;
      } catch (error) {
        if (error instanceof ChannelError && error.kind === 'misconfigured')
          await recordMisconfigured(db, row.paymentId, error.message, await now());
        throw unknownOutcome(row.payment.channel, error);
      }
    },
  };
}

export type RefundLedgerActivities = ReturnType<typeof refundLedgerActivities>;
export type RefundChannelActivities = ReturnType<typeof refundChannelActivities>;
