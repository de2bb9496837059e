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
  /** The waits between the next queries, in ms. The last wait repeats forever. */
  readonly waits: readonly [number, ...number[]];
}

/** Returns the ids by which the adapter identifies the refund at the channel. */
const knownOf = ({ id, attempt, channelRefundId }: Refund): KnownRefund => ({
  outRefundNo: refundNumber(id, attempt),
  channelRefundId,
});

/** Converts a refund's entry in the channel's list to an answer about that refund. */
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
 * Starts the deliveries of the events that were recorded for the payment's refunds. If the payment waited for the order
 * service and is now a conflict, the function also wakes the payment's workflow. Otherwise the workflow would show the
 * old state until its next delivery attempt, which can be a day away. The function never throws, because the sweep
 * starts each delivery that could not be started here.
 * @param before the payment as it was before the refund's answer was recorded
 */
async function announce(
  { db, deliveryWorkflows, workflows }: Pick<ActivityDeps, 'db' | 'deliveryWorkflows' | 'workflows'>,
  before: Payment,
): Promise<void> {
  await startDeliveries({ db, deliveryWorkflows }, before.id);
  if (before.orderUpdate !== 'pending') return;
  try {
    const after = await db.payment.findUniqueOrThrow({ where: { id: before.id } });
    if (after.orderUpdate === 'conflict') await workflows.wake(after, WAKE_DEADLINE_MS);
  } catch {
    // A failed signal is ignored, because the workflow reads the change from the ledger before its next delivery
    // attempt.
  }
}

/** The refund activities that only touch the ledger. Their task queue is `nodrop`. */
export function refundLedgerActivities({ db, now, deliveryWorkflows, workflows }: ActivityDeps) {
  return {
    /**
     * Reads the refund. A workflow run starts with this read, because the run's input may be out of date. Null if the
     * row is lost.
     */
    async loadRefund(refundId: string): Promise<RefundSnapshot | null> {
      return await findRefund(db, refundId, await now());
    },

    /** Records what a verified callback reports about a refund that nodrop requested. */
    async recordRefundCallback(refundId: string, callbackId: string): Promise<RefundSnapshot> {
      const { payment } = await db.refund.findUniqueOrThrow({
        where: { id: refundId },
        include: { payment: true },
      });
      const snapshot = await answers.recordRefundCallback(db, refundId, callbackId, await now());
      await announce({ db, deliveryWorkflows, workflows }, payment);
      return snapshot;
    },

    /** Records what a verified callback reports about refunds that nodrop did not request. */
    async recordRefunds(paymentId: string, callbackId: string): Promise<PaymentSnapshot> {
      const snapshot = await recordRefundsOfCallback(db, paymentId, callbackId, await now());
      await startDeliveries({ db, deliveryWorkflows }, paymentId);
      return snapshot;
    },
  };
}

/**
 * The refund activities that call a channel. Their task queue is `channel-{name}`, and `channel-{name}-poll` for
 * `queryRefund`. Each activity records the channel's answer in the ledger before it returns.
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

  /**
   * Returns the refund with its trade. If the channel's id of the trade is not on record, the trade is looked up.
   * @throws ChannelError
   */
  const withTrade = async (row: Row): Promise<RowWithTrade> => ({
    ...row,
    trade: await tradeOfRefund({ db, now }, adapterOf(row), row.payment, cancellationSignal()),
  });

  const query = async (row: RowWithTrade): Promise<RefundAnswer> =>
    await adapterOf(row).queryRefund(accountOf(row.payment), row.trade, knownOf(row), cancellationSignal());

  const queryTrade = async (row: RowWithTrade) =>
    await adapterOf(row).queryTrade(accountOf(row.payment), row.trade, cancellationSignal());

  /**
   * Checks before the first request whether the channel already knows the refund, because the ledger may have lost an
   * earlier request. The code queries the trade first and the refund's number second. If the channel then does not know
   * the number, the trade's refunded sum cannot include this refund. The function records refunds that nodrop did not
   * request. This may change this refund's row.
   * @returns undefined when the channel does not know the refund
   * @throws ChannelError
   */
  const lookFirst = async (row: RowWithTrade): Promise<answers.RefundReport | undefined> => {
    const trade = await queryTrade(row);
    const known = await query(row);
    if (known.state !== 'unknown_refund') return known;
    // A channel that uses only its own ids does not know nodrop's number of the refund. Therefore the code searches
    // the trade's list for the refund.
    const listed = isMoney(trade) ? listedOf(row, trade.refunds ?? []) : null;
    if (listed !== null) return answerOf(listed);
    await answers.recordFirstAsk(db, row.id, trade, await now());
    await announce({ db, deliveryWorkflows, workflows }, row.payment);
    return undefined;
  };

  /**
   * True if the channel's refusal of a refund is final. Even a temporary refusal is final if a lost dispute has taken
   * the money.
   */
  const isForGood = async ({ payment }: Row, { kind }: ChannelError): Promise<boolean> =>
    kind === 'rejected' || (kind === 'not_now' && (await losesMore(db, payment)));

  /**
   * Requests the refund. A final refusal fails the refund only if a query shows that the channel does not know the
   * refund's number. If the channel knows the number, an earlier request made the refund and its answer got lost. This
   * request may then be refused only because no money is left.
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
   * Records the channel's answer. If the answer settles the refund, the trade is queried first, and both answers are
   * recorded together. The query is needed, because nothing queries the trade later. Reports of other refunds may have
   * been attributed to this refund while it was open. If the query of the trade fails, the refund is not settled.
   * @throws ChannelError
   */
  const record = async (row: RowWithTrade, said: answers.RefundReport): Promise<RefundSnapshot> => {
    const isLast = said.state === 'succeeded' || said.state === 'failed' || said.state === 'reversed';
    const trade = isLast ? await queryTrade(row) : undefined;
    // If the trade's list shows the refund, an earlier request succeeded and its answer got lost. The refusal is then
    // ignored.
    const isUnnamed = said.state === 'failed' && said.channelRefundId === undefined;
    const listed = isUnnamed && trade !== undefined && isMoney(trade) && listedOf(row, trade.refunds ?? []);
    const answer = listed ? answerOf(listed) : said;
    const snapshot = await answers.recordRefundAnswer(db, row.id, answer, await now(), trade);
    // A settled refund has new events for the order service.
    if (!isRefundOpen(snapshot.status)) await announce({ db, deliveryWorkflows, workflows }, row.payment);
    return snapshot;
  };

  /**
   * Looks for a refund by its number and in the trade's list, because repeating the request blindly could refund twice.
   * @throws ChannelError when the channel gives no list. Without a list the refund is not requested again.
   */
  const lookFor = async (row: RowWithTrade) => {
    const known = await query(row);
    if (known.state !== 'unknown_refund' && known.state !== 'ask_again')
      return { next: 'record' as const, answer: known };
    const trade = await queryTrade(row);
    if (!isMoney(trade) || trade.refunds === undefined)
      throw new ChannelError(
        'unreachable',
        `refund ${refundNumber(row.id, row.attempt)} may be requested again only after a list of the trade's refunds does not show it, and the channel gives no list`,
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

  /**
   * True if the refund must wait until a dispute is decided. If the channel decides the dispute for the payer, it gives
   * the money back, and a refund would give it back a second time.
   */
  const isHeldBack = (row: Row) =>
    row.status === 'created' && row.askedAt === null && isHeldByDispute(row.payment, row.reason);

  const heldBack = () => notYet('nodrop', 'a disputed payment is not refunded', REFUND_HELD_BACK_MS);

  /** Queries the trade of a refund that waits for a dispute. @throws ApplicationFailure */
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
    await announce({ db, deliveryWorkflows, workflows }, payment);
  };

  /**
   * Records the channel's answer about a refund.
   * @throws ApplicationFailure when the channel wants a new request under the same number.
   */
  const recordAsked = async (row: RowWithTrade, answer: answers.RefundReport): Promise<RefundSnapshot> => {
    const snapshot = await record(row, answer);
    if (answer.state !== 'ask_again' || !isRefundOpen(snapshot.status)) return snapshot;
    const nth = Math.min(activityInfo().attempt, REFUND_QUERY_MS.length);
    throw notYet(row.payment.channel, 'ask_again', REFUND_QUERY_MS[nth - 1] ?? OWN_TROUBLE_RETRY_MS);
  };

  /** Requests the refund, unless the channel already knows it. @throws ChannelError, ApplicationFailure */
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
      // If the channel's id of the refund is known, an earlier request may have made the refund. Therefore nodrop
      // queries the refund before it requests the refund again.
      const known = row.channelRefundId === null ? undefined : await query(row);
      const isToAsk = known === undefined || known.state === 'unknown_refund' || known.state === 'ask_again';
      return await recordAsked(row, isToAsk ? await ask(row) : known);
    }
    // Looking for the refund at the channel may have changed the refund's row. The amount may be smaller, no money may
    // be left to refund, or the refund may have a new key.
    const looked = { ...(await load(row.id)), trade: row.trade };
    if (isOver(looked)) return toRefundSnapshot(looked, looked.payment);
    // The query of the trade may have reported a dispute.
    if (isHeldBack(looked)) throw heldBack();
    return await recordAsked(looked, await ask(looked));
  };

  const isOver = (row: Row) => !isRefundOpen(toRefundSnapshot(row, row.payment).status);

  return {
    /**
     * Requests the refund at the channel under its number, so that a repeated request refunds only once. If the request
     * is too old for this guarantee of the channel, nodrop looks for the refund first, and requests it only if the
     * refund certainly does not exist.
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
     * Queries the trade after a callback has settled the refund. The callback's data may be old, and reports of other
     * refunds may have been attributed to this refund while it was open. The query is retried until the channel
     * answers.
     */
    async askTradeOfRefund(refundId: string): Promise<void> {
      const row = await load(refundId);
      const { payment } = row;
      // All of the money is refunded, so no further refund can exist.
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
      await announce({ db, deliveryWorkflows, workflows }, payment);
    },

    /**
     * Sends the scheduled queries of a refund that the channel processes. The queries are the retries of one activity.
     * @returns the refund, once the channel has decided or nodrop must request the refund again. `known` is false if
     *   nodrop must request it again.
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

    /**
     * Queries a refund that succeeded some days ago, and its trade, because the bank may have returned the money since.
     */
    async lookAgainAtRefund(refundId: string): Promise<RefundSnapshot> {
      const row = await load(refundId);
      if (row.status !== 'succeeded') return toRefundSnapshot(row, row.payment);
      try {
        const known = await withTrade(row);
        const answer = await query(known);
        const trade = await queryTrade(known);
        const snapshot = await answers.recordLookAgain(db, refundId, answer, trade, await now());
        await announce({ db, deliveryWorkflows, workflows }, row.payment);
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
