import { defineSearchAttributeKey, type SearchAttributeUpdatePair } from '@temporalio/common';
import * as wf from '@temporalio/workflow';
import type { ChannelActivities } from '../activities/channel.ts';
import type { DeliverEventActivities } from '../activities/deliver-event.ts';
import type { LedgerActivities } from '../activities/ledger.ts';
import type { RefundLedgerActivities } from '../activities/refund.ts';
import type { Attention } from '../domain/attention.ts';
import type { DeliveryProgress } from '../domain/delivery.ts';
import { channelTaskQueue, paymentWorkflowId, pollTaskQueue, refundWorkflowId } from '../domain/names.ts';
import {
  type CallbackNotice,
  hasMoney,
  newSnapshot,
  type PaymentSnapshot,
  reportsFullAmount,
} from '../domain/payment.ts';
import { closeLag, isToClose, isToEnd, lateWaits, queryPlan, TIGHT_PHASE_MS } from '../domain/schedule.ts';
import { isEnded, isLive } from '../domain/states.ts';
import {
  ALARM_AFTER,
  ASK_ONCE,
  CLOSE_TRADE,
  CREATE_ATTEMPT_MS,
  CREATE_TRADE,
  DELIVER_TO_ORDER_SERVICE,
  FIND_AND_QUERY_TRADE,
  LEDGER,
  LEDGER_BRIEFLY,
  ORDER_UPDATE_AT_ONCE,
  QUERY_TRADE,
  RENEW_ACTION,
  RENEWAL_MS,
} from './activity-options.ts';
import { concernsSettledPayment, isBefore, type Message } from './inbox.ts';
import { untilDoneOrMessage } from './interruptible.ts';
import { isLocalFailure, localActivities } from './local-activities.ts';
import { isRowLost, type Missing, present, readRow, whileRowMissing } from './lost-row.ts';
import {
  askChannelUpdate,
  callbackSignal,
  cancelSignal,
  hintSignal,
  nextActionUpdate,
  noticeSignal,
  type PaymentInput,
  REFUND_WORKFLOW,
  type RefundInput,
  searchAttributes,
  wakeSignal,
} from './messages.ts';
import { describeLostPayment, describePayment, describeUnreadable } from './web-ui-text.ts';

/**
 * Runs one payment from its creation until it is settled or its late watch has ended. While the workflow waits for
 * the channel's callback, it queries the channel on schedule. When the payment is paid, the workflow updates the
 * order. Signal and update handlers only add to the inbox. `run` is the one loop that owns the state, and it reads
 * the ledger before each decision. Every wait of the loop is bounded, or ends when a message of higher priority
 * arrives. Only the writes that decide what happens next (`updateOrder`, `recordRefunds`) are retried until they
 * succeed.
 */
export async function payment(input: PaymentInput): Promise<void> {
  const run = new PaymentRun(input);

  wf.setHandler(callbackSignal, (notice) => run.post({ kind: 'callback', notice }));
  // A person can send this signal from the Web UI without an argument.
  wf.setHandler(hintSignal, (hint) => run.post({ kind: 'hint', tight: hint?.tight === true }));
  wf.setHandler(noticeSignal, () => run.post({ kind: 'notice' }));
  wf.setHandler(cancelSignal, () => run.post({ kind: 'cancel', by: 'the merchant' }));
  wf.setHandler(wakeSignal, () => run.post({ kind: 'wake' }));
  // The scope is non-cancellable, because the workflow continues after "Request Cancellation" in the Web UI, and must
  // still answer updates.
  wf.setHandler(nextActionUpdate, () => wf.CancellationScope.nonCancellable(() => run.awaitNextAction()));
  wf.setHandler(askChannelUpdate, () => wf.CancellationScope.nonCancellable(() => run.askNow()));

  // "Request Cancellation" in the Web UI cancels the payment in the normal way: the workflow queries the trade, closes
  // it, and then ends.
  wf.CancellationScope.current().cancelRequested.catch(() =>
    run.post({ kind: 'cancel', by: 'the Temporal Web UI' }),
  );
  await wf.CancellationScope.nonCancellable(() => run.run());
}

const UPDATE_ORDER_SUMMARY = 'update the order: the channel says paid';

const ledger = wf.proxyActivities<
  Pick<LedgerActivities, 'requestCancel'> & Pick<RefundLedgerActivities, 'recordRefunds'>
>(LEDGER);

const reads = localActivities<Pick<LedgerActivities, 'loadPayment'>>();

const atOnce = localActivities<Pick<LedgerActivities, 'updateOrder'>>({
  ...ORDER_UPDATE_AT_ONCE,
  summary: UPDATE_ORDER_SUMMARY,
});

/** These activities have short timeouts, because raising an attention must not delay the payment's settlement. */
const attentions = wf.proxyActivities<Pick<LedgerActivities, 'raiseAttention'>>(LEDGER_BRIEFLY);

const STATUS = defineSearchAttributeKey(searchAttributes.status, 'KEYWORD');
const ATTENTION = defineSearchAttributeKey(searchAttributes.attention, 'KEYWORD');

/**
 * If the first run starts within this time after the payment's creation, it may skip reading the row, because
 * `createAtChannel` reads the row. A run that starts later, for example after a reset, reads the row first.
 */
const NEW_FOR_MS = 60_000;

/** The attention that is raised after repeated failures of some work. The retries of the work continue. */
interface Alarm {
  /** How many attempts must fail before the attention is raised. */
  readonly after: number;
  readonly attention: Attention;
  readonly detail: string;
}

class PaymentRun {
  readonly #input: PaymentInput;
  readonly #inbox: Message[] = [];
  /** How many messages this run has received so far. */
  #messagesReceived = 0;
  #row: PaymentSnapshot | undefined;
  /** True if the payment's row is lost or unreadable. In this case waiting updates return without an answer. */
  #isMissing = false;
  /**
   * Set when a query is due immediately. The value `query` means a single query. The value `tight` means the first
   * query of a tight phase, which has many queries within a minute.
   */
  #due: 'query' | 'tight' | undefined;
  /**
   * How many times in a row the channel has contradicted itself: a query reported "unpaid", and then the channel
   * refused the close as "already paid".
   */
  #contradictions = 0;
  /** The newest progress of the delivery to the order service that this run has read. */
  #deliveryProgress: DeliveryProgress | null = null;
  /** Until this time (epoch ms) an attempt to create the trade may still run, although its activity has ended. */
  #mayBeCreatedUntil = 0;

  constructor(input: PaymentInput) {
    this.#input = input;
  }

  /** Adds a message to the inbox. The inbox is sorted by priority. Messages of one kind are sorted by arrival. */
  post(message: Message): void {
    this.#messagesReceived += 1;
    const after = this.#inbox.findIndex(({ kind }) => isBefore(message.kind, kind));
    this.#inbox.splice(after === -1 ? this.#inbox.length : after, 0, message);
  }

  /**
   * Resolves when the payer has a next action, when the payment no longer needs a next action, or when the payment's
   * row is missing.
   */
  async awaitNextAction(): Promise<void> {
    await wf.condition(() => this.#row !== undefined || this.#isMissing);
    if (this.#row?.status !== 'paying') {
      await wf.condition(() => this.#row?.status !== 'created' || this.#isMissing);
      return;
    }
    // A payment that is about to end gets no new next action. Therefore its end is not interrupted.
    if (isToEnd(this.#row, Date.now())) return;
    const message: Message = { kind: 'renewAction', until: Date.now() + RENEWAL_MS, done: false };
    this.post(message);
    await wf.condition(() => message.done || this.#isMissing);
  }

  async askNow(): Promise<boolean> {
    const message: Message = { kind: 'ask', answered: undefined };
    this.post(message);
    await wf.condition(() => message.answered !== undefined || this.#isMissing);
    return message.answered === true;
  }

  async run(): Promise<void> {
    let isNew = isUntouched(this.#input);
    await whileRowMissing(
      async () => {
        if (!isNew) return await this.#load();
        isNew = false;
        return newSnapshot(this.#input);
      },
      (row) => this.#process(row),
      {
        onMissing: (why, nextLookAt) => this.#showMissing(why, nextLookAt),
        messages: () => this.#messagesReceived,
        // Cancellations and updates need no check here. A requested cancellation is in the ledger, and a waiting update
        // prevents continue-as-new anyway.
        mayRenew: () =>
          this.#due === undefined && this.#ofKind('callback').length === 0 && !this.#mayStillBeCreated(),
        renew: () => this.#renew(),
      },
    );
  }

  /** Continues the workflow as new. The new run reads the payment's row first. */
  async #renew(): Promise<never> {
    const { isNew: _, ...input } = this.#input;
    return await wf.continueAsNew<typeof payment>(input);
  }

  /** The loop that owns the payment's state. */
  async #process(loaded: PaymentSnapshot): Promise<void> {
    this.#isMissing = false;
    this.#row = loaded;
    for (;;) {
      const row = this.#row;
      this.#publish(row);
      const message = this.#inbox[0];
      if (row.status !== 'succeeded' && hasMoney(row)) {
        await this.#updateOrder();
      } else if (message !== undefined) {
        await this.#receive(message, row);
      } else if (this.#isOver(row)) {
        // Before the run ends, it answers waiting updates and handles messages that have arrived meanwhile.
        await wf.condition(() => wf.allHandlersFinished() || this.#inbox.length > 0);
        if (this.#inbox.length === 0) return;
      } else if (row.status === 'created' && this.#mayStillBeCreated()) {
        await this.#awaitLastAttempt();
      } else if (wf.workflowInfo().continueAsNewSuggested && (await this.#mayContinueAsNew(row))) {
        await this.#renew();
      } else if (row.status === 'succeeded') {
        await this.#deliverToOrderService();
      } else if (isToClose(row, Date.now())) {
        await this.#close(row);
      } else if (row.status === 'created' && !isInProcess(row) && !isToEnd(row, Date.now())) {
        await this.#create(row);
      } else {
        await this.#waitAndAsk(row);
      }
    }
  }

  /**
   * Handles the first message of the inbox. A message of higher priority interrupts long work. The interrupted
   * message then stays in the inbox, and is handled again later.
   */
  async #receive(message: Message, row: PaymentSnapshot): Promise<void> {
    switch (message.kind) {
      case 'callback':
        await this.#receiveCallback(message.notice, row);
        this.#remove([message]);
        return;
      case 'hint':
        this.#inbox.shift();
        if (row.status !== 'succeeded') this.#due = message.tight ? 'tight' : (this.#due ?? 'query');
        return;
      case 'notice':
        await this.#receiveNotice(row);
        return;
      case 'cancel':
        await this.#unlessBefore('cancel', [message], async () => {
          this.#row = await ledger.requestCancel(row.id, message.by);
        });
        return;
      case 'wake':
        this.#inbox.shift();
        this.#row = await this.#load();
        return;
      case 'renewAction':
        await this.#renewAction(message.until, row);
        return;
      case 'ask':
        await this.#ask(row);
        return;
    }
  }

  /**
   * Does the work for messages of one kind, and removes the messages from the inbox when the work is done. If a channel
   * call is interrupted, the workflow no longer waits for it but does not cancel it. The call has a timeout, and its
   * answer is still written to the ledger.
   * @returns false if a message of higher priority, other than a hint, interrupted the work. The given messages then
   *   stay in the inbox.
   */
  async #unlessBefore(
    kind: Message['kind'],
    messages: readonly Message[],
    work: () => Promise<void>,
  ): Promise<boolean> {
    const isInterrupted = () =>
      this.#inbox.some((other) => other.kind !== 'hint' && isBefore(other.kind, kind));
    const finished = await this.#untilDoneOrMessage(work, undefined, isInterrupted);
    if (finished) this.#remove(messages);
    return finished;
  }

  #ofKind<Kind extends Message['kind']>(kind: Kind): Extract<Message, { kind: Kind }>[] {
    return this.#inbox.filter(
      (message): message is Extract<Message, { kind: Kind }> => message.kind === kind,
    );
  }

  #remove(messages: readonly Message[]): void {
    for (const message of messages) {
      const at = this.#inbox.indexOf(message);
      if (at !== -1) this.#inbox.splice(at, 1);
    }
  }

  async #receiveCallback(notice: CallbackNotice | undefined, row: PaymentSnapshot): Promise<void> {
    const reportsRefund = notice?.refundedAmount !== undefined;
    if (row.status !== 'succeeded') {
      // If a callback reports exactly the requested amount, the ledger should already have recorded the money, and
      // `updateOrder` settles it. The signal alone does not prove a payment. Therefore, if the ledger has no money on
      // record, the channel is queried (P2).
      if (notice !== undefined && !reportsRefund && reportsFullAmount(notice, row)) await this.#updateOrder();
      else this.#row = await this.#load();
      if (!hasMoney(this.#row ?? row)) this.#due ??= 'query';
      // The payment may be settled before the callback arrives, for example by the sweep after a reset of this run.
      // The refund that the callback reports must still be recorded here.
      if (this.#row?.status !== 'succeeded' || !reportsRefund) return;
    }
    if (reportsRefund) this.#row = await ledger.recordRefunds(row.id, notice.callbackId);
  }

  /**
   * Handles a notice of the channel, which makes a query due. A settled payment has no planned queries. Therefore the
   * function itself queries the channel about a settled payment. The sweep repeats the notice until the channel
   * answers.
   */
  async #receiveNotice(row: PaymentSnapshot): Promise<void> {
    const notices = this.#ofKind('notice');
    if (row.status !== 'succeeded') {
      this.#due ??= 'query';
      this.#remove(notices);
      return;
    }
    await this.#unlessBefore('notice', notices, async () => {
      await this.#askOnce(row, 'query after a notice of the channel');
    });
  }

  /**
   * True when the workflow can end, because the payment is settled, or because the payment ended unpaid and its late
   * watch is complete.
   */
  #isOver(row: PaymentSnapshot): boolean {
    if (row.status === 'succeeded') return row.orderUpdate !== 'pending';
    return isEnded(row.status) && this.#due === undefined && lateWaits(row, Date.now()).length === 0;
  }

  /** True when no update waits for an answer and all data of the run is also in the ledger. */
  async #mayContinueAsNew(row: PaymentSnapshot): Promise<boolean> {
    // If the payment is about to be closed, a due query need not be kept, because the payment is queried before the
    // close anyway.
    if (this.#due !== undefined && !isToClose(row, Date.now())) return false;
    // The run first waits until all update handlers have finished. It does not wait while the payment's status is
    // `created`, because an update can then take long.
    if (row.status !== 'created')
      await wf.condition(() => wf.allHandlersFinished() || this.#inbox.length > 0);
    return wf.allHandlersFinished() && this.#inbox.length === 0;
  }

  /**
   * Creates the trade. The activity is retried until the payment expires. The expiry sets the activity's
   * schedule-to-close timeout.
   */
  async #create({ expiresAt }: PaymentSnapshot): Promise<void> {
    await this.#untilDoneOrMessage(async () => {
      try {
        this.#row = await this.#alarmed(
          {
            after: ALARM_AFTER.create,
            attention: 'create_unknown',
            detail: 'The channel does not say whether it created the trade.',
          },
          () => ({
            ...CREATE_TRADE,
            scheduleToCloseTimeout: Math.max(1, expiresAt - Date.now()),
            summary: 'create the trade at the channel',
          }),
          async (options) =>
            // The payment can expire while the attention is being raised.
            Date.now() < expiresAt
              ? await this.#channel(options).createAtChannel(this.#input.paymentId)
              : await this.#load(),
        );
      } catch (error) {
        if (!isOutOfTime(error)) throw error;
        // The last attempt to create the trade began before its activity ended and before the expiry. Therefore it ends
        // at most CREATE_ATTEMPT_MS after the earlier of these two times.
        if (mayRunOn(error)) this.#mayBeCreatedUntil = Math.min(expiresAt, Date.now()) + CREATE_ATTEMPT_MS;
        // If the activity's next attempt would start after the expiry, the server ends the activity before the expiry.
        // The workflow then waits until the expiry.
        const left = expiresAt - Date.now();
        if (left > 0)
          await wf.sleep(left, { summary: 'until the payment expires: no time for another attempt' });
        // The last attempt may have written to the ledger before it failed to return its result. Therefore the row is
        // read again.
        this.#row = await this.#load();
      }
    });
  }

  #mayStillBeCreated(): boolean {
    return Date.now() < this.#mayBeCreatedUntil;
  }

  /**
   * Waits until the last attempt to create the trade has certainly ended. When the server ends the activity, the worker
   * may still run the attempt. In addition, the channel may still process a request that timed out. If a query during
   * this time reported an unknown trade, the payment would end, although the trade is created later and stays open.
   */
  async #awaitLastAttempt(): Promise<void> {
    const left = this.#mayBeCreatedUntil - Date.now();
    const summary = 'until the last attempt to create the trade has ended';
    await wf.condition(() => this.#inbox.length > 0, left, { summary });
    this.#row = await this.#load();
  }

  /**
   * Gets a new next action for the payer. Gives up at `until`, because the workflow must continue to query the
   * channel. One attempt answers all waiting updates.
   * @param until the deadline of the update that has waited longest, epoch ms
   */
  async #renewAction(until: number, row: PaymentSnapshot): Promise<void> {
    const left = until - Date.now();
    // A payment that is about to end gets no new next action.
    if (row.status === 'paying' && !row.cancelRequested && Date.now() < row.expiresAt && left > 0) {
      const finished = await this.#unlessBefore('renewAction', [], async () => {
        try {
          this.#row = await this.#channel({
            ...RENEW_ACTION,
            // This timeout also limits the wait for a worker, because it is possible that no worker is running.
            scheduleToCloseTimeout: left,
            summary: 'get a new next action: the old one has expired',
          }).createAtChannel(this.#input.paymentId);
        } catch (error) {
          if (!(error instanceof wf.ActivityFailure) || wf.isCancellation(error)) throw error;
        }
      });
      if (!finished) return;
    }
    const waiting = this.#ofKind('renewAction');
    this.#remove(waiting);
    for (const message of waiting) message.done = true;
  }

  /** Ends an unpaid payment. Queries the channel first, and closes the trade only if the trade is unpaid. */
  async #close(row: PaymentSnapshot): Promise<void> {
    const to = row.cancelRequested && row.noAction !== true ? 'cancelled' : 'closed';
    const alarm: Alarm = {
      after: ALARM_AFTER.close,
      attention: 'channel_unreachable',
      detail: `The payment must be ${to}, but the channel does not answer.`,
    };
    await this.#untilDoneOrMessage(async () => {
      this.#row = await this.#alarmed(
        alarm,
        () => ({ ...CLOSE_TRADE, summary: `query the channel before the payment is ${to}` }),
        (options) => this.#channel(options).askBeforeEnd(row.id),
      );
      this.#due = undefined;
      if (!isLive(this.#row.status) || hasMoney(this.#row)) return;
      if (this.#row.channelState === 'processing') return;
      const { snapshot, closed } = await this.#alarmed(
        alarm,
        () => ({ ...CLOSE_TRADE, summary: `close the trade at the channel; the payment is then ${to}` }),
        (options) => this.#channel(options).closeAtChannel(row.id, to),
      );
      this.#row = snapshot;
      if (closed === 'already_paid') await this.#awaitQueryAfterClose(snapshot);
      else this.#contradictions = 0;
    });
  }

  /**
   * Called when the channel has refused the close as "already paid", although a query reported "unpaid". Waits before
   * the next query, because the channel's answers to queries are still out of date. A query is needed, because only a
   * query reports the amount.
   */
  async #awaitQueryAfterClose(row: PaymentSnapshot): Promise<void> {
    const lag = closeLag(this.#contradictions);
    this.#contradictions += 1;
    if (this.#contradictions >= ALARM_AFTER.close && row.attention === null) {
      const detail =
        'The channel refuses to close the trade as already paid, but its queries do not report it as paid.';
      await this.#show('channel_unreachable', detail);
    }
    await wf.sleep(lag, { summary: 'the close says already paid: wait before the next query' });
  }

  #channel(options: wf.ActivityOptions): wf.ActivityInterfaceFor<ChannelActivities> {
    return wf.proxyActivities<ChannelActivities>({
      taskQueue: channelTaskQueue(this.#input.channel),
      ...options,
    });
  }

  /** Waits until the next query is due or a message arrives. Then one activity sends the scheduled queries. */
  async #waitAndAsk(row: PaymentSnapshot): Promise<void> {
    const due = this.#due;
    const plan = queryPlan(row, this.#input.queryScheduleMs, Date.now());
    let waits = due === 'tight' ? plan.afterHint : plan.waits;
    if (due === undefined) {
      const first = waits[0] ?? Math.max(0, plan.endsAt - Date.now());
      wf.setCurrentDetails(describePayment(row, { at: Date.now() + first, waits: [] }));
      const summary = waits.length === 0 ? 'until the payment expires' : 'until the next query or a callback';
      const interrupted = await wf.condition(() => this.#inbox.length > 0, first, { summary });
      if (interrupted || waits.length === 0) return;
      waits = waits.slice(1);
    }
    this.#due = undefined;
    wf.setCurrentDetails(describePayment(row, { at: Date.now(), waits }));
    const finished = await this.#untilDoneOrMessage(
      async () => {
        this.#row = await wf
          .proxyActivities<ChannelActivities>({
            taskQueue: pollTaskQueue(this.#input.channel),
            // If the payment is not `paying`, or its cancellation was requested, the channel's own id of the trade may
            // be unknown. In that case the query has to find the trade first.
            ...(row.status === 'paying' && !row.cancelRequested ? QUERY_TRADE : FIND_AND_QUERY_TRADE),
            summary: due === undefined ? plan.summary : 'query at once after a hint, then on schedule',
          })
          .queryChannel({
            paymentId: row.id,
            startedAt: Date.now(),
            waits,
            hintQueries: due === 'tight' ? TIGHT_PHASE_MS.length + 1 : 0,
            whileProcessingEveryMs: plan.whileProcessingEveryMs,
            ...(isToEnd(row, Date.now()) ? { isToEnd: true } : {}),
          });
      },
      Number.isFinite(plan.endsAt) ? plan.endsAt - Date.now() : undefined,
    );
    // The interrupted activity may not have sent the query yet. If no new answer is recorded, the query stays due.
    if (!finished && this.#row?.channelAnsweredAt === row.channelAnsweredAt) this.#due ??= due;
  }

  /**
   * Sends one query. The query's result answers all updates that arrived before the query began. Updates that arrive
   * later get another query.
   */
  async #ask(row: PaymentSnapshot): Promise<void> {
    const asks = this.#ofKind('ask');
    let answered = false;
    const finished = await this.#unlessBefore('ask', asks, async () => {
      answered = await this.#askOnce(row, 'query on request of an operator');
    });
    if (finished) for (const message of asks) message.answered = answered;
  }

  async #askOnce(row: PaymentSnapshot, summary: string): Promise<boolean> {
    try {
      const asked = await this.#channel({
        ...ASK_ONCE,
        summary,
      }).askChannel(row.id);
      this.#row = asked.snapshot;
      return asked.answered;
    } catch (error) {
      if (!(error instanceof wf.ActivityFailure) || wf.isCancellation(error)) throw error;
      // The activity may have recorded the channel's answer before it failed. Therefore the row is read again.
      this.#row = await this.#load();
      return false;
    }
  }

  /** Settles recorded money that is not settled yet, and updates the order. */
  async #updateOrder(): Promise<void> {
    const { paymentId, merchantId, orderId } = this.#input;
    const owned = { paymentId, merchantId, orderId };
    const updated = await atOnce.updateOrder(owned).catch(async (error: unknown) => {
      // If the local activity fails, even because of a lost row, a regular activity repeats the work. The regular
      // activity is visible in the Web UI, and Temporal retries it forever.
      if (!isLocalFailure(error)) throw error;
      return await this.#alarmed(
        {
          after: ALARM_AFTER.updateOrder,
          attention: 'order_update_failing',
          detail: 'The money has arrived, but the order update keeps failing.',
        },
        () => ({ ...LEDGER, summary: UPDATE_ORDER_SUMMARY }),
        (options) => wf.proxyActivities<LedgerActivities>(options).updateOrder(owned),
      );
    });
    this.#row = updated.snapshot;
    // The workflow can wait for signals and for the start of a child workflow, because they need only the Temporal
    // server.
    for (const other of updated.cancelled) {
      // A failed signal is ignored, because the requested cancellation is in the ledger. If the workflow of that
      // payment does not run, the sweep starts it.
      await wf
        .getExternalWorkflowHandle(paymentWorkflowId(other))
        .signal(cancelSignal)
        .catch(() => undefined);
    }
    if (updated.refund !== null) await this.#startRefund(updated.refund);
  }

  /**
   * Called when the order in nodrop's ledger is paid. Delivers the event to the merchant's order service until the
   * service agrees or definitely refuses.
   */
  async #deliverToOrderService(): Promise<void> {
    let refund: string | null = null;
    const isInterrupted = () => this.#inbox.some(concernsSettledPayment);
    const work = async () => {
      const delivered = await wf
        .proxyActivities<DeliverEventActivities>({
          ...DELIVER_TO_ORDER_SERVICE,
          summary: 'deliver payment.succeeded to the order service, until it agrees',
        })
        .tellOrderService(this.#input.paymentId);
      this.#row = delivered.snapshot;
      this.#deliveryProgress = delivered.telling;
      refund = delivered.refund;
    };
    await this.#untilDoneOrMessage(work, undefined, isInterrupted);
    if (refund !== null) await this.#startRefund(refund);
  }

  /**
   * Starts the refund's workflow. If the start fails, the sweep starts the workflow, because the refund is in the
   * ledger.
   */
  async #startRefund(refundId: string): Promise<void> {
    await wf
      .startChild(REFUND_WORKFLOW, {
        workflowId: refundWorkflowId(refundId),
        workflowIdReusePolicy: 'ALLOW_DUPLICATE',
        parentClosePolicy: 'ABANDON',
        args: [
          { refundId, paymentId: this.#input.paymentId, channel: this.#input.channel } satisfies RefundInput,
        ],
        staticSummary: `refund of payment ${this.#input.paymentId} through ${this.#input.channel}`,
        typedSearchAttributes: [
          {
            key: defineSearchAttributeKey(searchAttributes.channel, 'KEYWORD'),
            value: this.#input.channel,
          },
          {
            key: defineSearchAttributeKey(searchAttributes.orderId, 'KEYWORD'),
            value: this.#row?.orderId ?? '',
          },
        ],
      })
      .catch(() => undefined);
  }

  /**
   * Does work that is retried until its timeout, or forever. When the number of failed attempts reaches `after`, the
   * attention is raised, and the retries continue.
   * @param optionsNow called before each activity, because the time left until a timeout changes.
   */
  async #alarmed<T>(
    { after, attention, detail }: Alarm,
    optionsNow: () => wf.ActivityOptions,
    work: (options: wf.ActivityOptions) => Promise<T>,
  ): Promise<T> {
    let isShown = this.#row?.attention === attention;
    while (!isShown) {
      const options = optionsNow();
      try {
        return await work({ ...options, retry: { ...options.retry, maximumAttempts: after } });
      } catch (error) {
        if (!(error instanceof wf.ActivityFailure) || wf.isCancellation(error)) throw error;
        if (isRowLost(error) || isOutOfTime(error)) throw error;
      }
      isShown = await this.#show(attention, detail);
    }
    return await work(optionsNow());
  }

  /** Raises the attention. Returns false if it could not be raised within 30 s. */
  async #show(attention: Attention, detail: string): Promise<boolean> {
    try {
      this.#publish(await attentions.raiseAttention(this.#input.paymentId, attention, detail));
      return true;
    } catch (error) {
      if (!(error instanceof wf.ActivityFailure) || wf.isCancellation(error) || isRowLost(error)) throw error;
      return false;
    }
  }

  /**
   * Does the work until it is done, a message arrives, or `timeoutMs` have passed. In the last two cases it cancels the
   * work and reads the row again.
   * @returns true when the work was done
   */
  async #untilDoneOrMessage(
    work: () => Promise<void>,
    timeoutMs?: number,
    isInterrupted: () => boolean = () => this.#inbox.length > 0,
  ): Promise<boolean> {
    const finished = await untilDoneOrMessage(
      work,
      isInterrupted,
      timeoutMs === undefined ? undefined : { ms: timeoutMs, summary: 'until the planned queries end' },
    );
    if (!finished) this.#row = await this.#load();
    return finished;
  }

  async #load(): Promise<PaymentSnapshot> {
    return present(await readRow(() => reads.loadPayment(this.#input.paymentId)));
  }

  #showMissing(why: Missing, nextLookAt: number): void {
    this.#isMissing = true;
    wf.setCurrentDetails(
      why === 'lost' ? describeLostPayment(this.#input, nextLookAt) : describeUnreadable(nextLookAt),
    );
  }

  /** Shows the payment's state in the Web UI, in the search attributes and the current details. */
  #publish(row: PaymentSnapshot): void {
    // The current search attributes are read from Temporal, because the starter of the run, an earlier run, or
    // `whileRowMissing` may have set them.
    const { typedSearchAttributes: shown } = wf.workflowInfo();
    const attention = shown.get(ATTENTION) ?? null;
    const changed: SearchAttributeUpdatePair[] = [];
    if (shown.get(STATUS) !== row.status) changed.push({ key: STATUS, value: row.status });
    if (attention !== row.attention) changed.push({ key: ATTENTION, value: row.attention });
    if (changed.length > 0) wf.upsertSearchAttributes(changed);
    wf.setCurrentDetails(describePayment(row, undefined, this.#deliveryProgress));
  }
}

/**
 * True if the run may skip reading the payment's row, because the run's starter inserted the row less than 1 min ago.
 * The input alone does not show this, because a run after a reset has the same input. Therefore the run's clock is
 * also checked.
 */
function isUntouched({ isNew, createdAt }: PaymentInput): boolean {
  return isNew === true && Date.now() - createdAt < NEW_FOR_MS;
}

/**
 * True if an activity has reached its schedule-to-close timeout, or if no further attempt fits into that timeout. Also
 * true if no worker took the activity in time (schedule-to-start timeout). False if the activity has only used up its
 * attempts.
 */
function isOutOfTime(error: unknown): boolean {
  if (!(error instanceof wf.ActivityFailure)) return false;
  const { cause, retryState } = error;
  if (retryState === 'TIMEOUT') return true;
  return cause instanceof wf.TimeoutFailure && cause.timeoutType !== 'START_TO_CLOSE';
}

/**
 * True if an activity's work may still continue although the activity ended without a result. The worker continues an
 * attempt that timed out, and the channel may still process a request for which the adapter no longer waits. False if
 * no worker ever took the activity.
 */
function mayRunOn(error: unknown): boolean {
  if (!(error instanceof wf.ActivityFailure)) return false;
  const { cause } = error;
  return !(cause instanceof wf.TimeoutFailure && cause.timeoutType === 'SCHEDULE_TO_START');
}

/**
 * True if the channel is already processing the trade, although the channel never confirmed the create. In that case
 * the workflow must not create a trade.
 */
function isInProcess(row: PaymentSnapshot): boolean {
  return row.channelState === 'processing';
}
