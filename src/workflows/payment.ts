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
 * One payment, from its creation until it is settled or its late watch is over: waits for the callback while
 * timer-driven queries ask the channel, and ends by updating the order.
 *
 * Handlers only add to the inbox; `run` is the one loop that owns the state, and it reads the ledger before it
 * decides anything. Every wait of the loop is bounded, or ends when a message comes that is handled before it, except
 * for the writes that decide what happens next (`updateOrder`, `recordRefunds`): they are retried until they succeed.
 */
export async function payment(input: PaymentInput): Promise<void> {
  const run = new PaymentRun(input);

  wf.setHandler(callbackSignal, (notice) => run.post({ kind: 'callback', notice }));
  // A person may send a bare signal from the Web UI: it is taken for what it can mean.
  wf.setHandler(hintSignal, (hint) => run.post({ kind: 'hint', tight: hint?.tight === true }));
  wf.setHandler(noticeSignal, () => run.post({ kind: 'notice' }));
  wf.setHandler(cancelSignal, () => run.post({ kind: 'cancel', by: 'the merchant' }));
  wf.setHandler(wakeSignal, () => run.post({ kind: 'wake' }));
  // Answered also after a "Request Cancellation", which ends no payment by itself.
  wf.setHandler(nextActionUpdate, () => wf.CancellationScope.nonCancellable(() => run.awaitNextAction()));
  wf.setHandler(askChannelUpdate, () => wf.CancellationScope.nonCancellable(() => run.askNow()));

  // "Request Cancellation" in the Web UI is a payment's cancel like any other: asked and closed, never just dropped.
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

/** Showing a payment to a person must not keep it from being settled. */
const attentions = wf.proxyActivities<Pick<LedgerActivities, 'raiseAttention'>>(LEDGER_BRIEFLY);

const STATUS = defineSearchAttributeKey(searchAttributes.status, 'KEYWORD');
const ATTENTION = defineSearchAttributeKey(searchAttributes.attention, 'KEYWORD');

/**
 * How long after its creation a payment counts as just made. A run that is started again, say by a reset, begins later,
 * and one that began within it is read by the activity that creates the trade.
 */
const NEW_FOR_MS = 60_000;

/** What a person is told when work that is never given up does not get on. */
interface Alarm {
  /** How many attempts come before it. */
  readonly after: number;
  readonly attention: Attention;
  readonly detail: string;
}

class PaymentRun {
  readonly #input: PaymentInput;
  readonly #inbox: Message[] = [];
  /** How many messages have come in so far. */
  #messagesReceived = 0;
  #row: PaymentSnapshot | undefined;
  /** The payment's row is gone or cannot be read: nobody is kept waiting for an answer. */
  #isMissing = false;
  /** A query is due at once: alone, or as the first of a tight phase. */
  #due: 'query' | 'tight' | undefined;
  /** How often in a row the channel's close has said "already paid", and its query before that it is not. */
  #contradictions = 0;
  /** How it goes with the order service, as far as this run knows. */
  #deliveryProgress: DeliveryProgress | null = null;
  /** Epoch ms: until then an attempt to create the trade may still be under way, though its activity has ended. */
  #mayBeCreatedUntil = 0;

  constructor(input: PaymentInput) {
    this.#input = input;
  }

  /** Keeps the inbox in the order in which messages are handled, and messages of one kind in the order in which they came. */
  post(message: Message): void {
    this.#messagesReceived += 1;
    const after = this.#inbox.findIndex(({ kind }) => isBefore(message.kind, kind));
    this.#inbox.splice(after === -1 ? this.#inbox.length : after, 0, message);
  }

  /** Resolves when the payer has something to do, or the payment is past that, or its row is missing. */
  async awaitNextAction(): Promise<void> {
    await wf.condition(() => this.#row !== undefined || this.#isMissing);
    if (this.#row?.status !== 'paying') {
      await wf.condition(() => this.#row?.status !== 'created' || this.#isMissing);
      return;
    }
    // Nobody is to pay any more what is about to end, and its end is not interrupted for that.
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
        // A wish to cancel is in the ledger; whoever waits for an answer holds up the next run as it is.
        mayRenew: () =>
          this.#due === undefined && this.#ofKind('callback').length === 0 && !this.#mayStillBeCreated(),
        renew: () => this.#renew(),
      },
    );
  }

  /** Goes on in a new run, which reads the row. */
  async #renew(): Promise<never> {
    const { isNew: _, ...input } = this.#input;
    return await wf.continueAsNew<typeof payment>(input);
  }

  /** The one loop. */
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
        // Whoever waits for an answer gets it; what came in meanwhile is dealt with first.
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
   * Handles the first message of the inbox. Work that can take long ends early for a message that is handled before
   * it; its own message then stays in the inbox, and is handled again.
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
   * Does the work for messages of one kind, and takes them out of the inbox when it is done. What ends early at a
   * channel is abandoned: it is bounded, and what it learns is written down all the same.
   * @returns false when a message came that is handled before them (a hint can wait): they are still in the inbox.
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
    const tellsOfRefund = notice?.refundedAmount !== undefined;
    if (row.status !== 'succeeded') {
      // One for exactly what was asked is on record already, and settles. The signal alone proves nothing: the ledger
      // settles what is on record, and when that is nothing the channel is asked, as for any other callback (P2).
      if (notice !== undefined && !tellsOfRefund && reportsFullAmount(notice, row)) await this.#updateOrder();
      else this.#row = await this.#load();
      if (!hasMoney(this.#row ?? row)) this.#due ??= 'query';
      // Settled past this run (it was reset, say) before the callback came: nobody else looks at what it tells.
      if (this.#row?.status !== 'succeeded' || !tellsOfRefund) return;
    }
    if (tellsOfRefund) this.#row = await ledger.recordRefunds(row.id, notice.callbackId);
  }

  /** A query is due; of a settled payment one now, as none is planned. The sweep says it again until the channel answers. */
  async #receiveNotice(row: PaymentSnapshot): Promise<void> {
    const notices = this.#ofKind('notice');
    if (row.status !== 'succeeded') {
      this.#due ??= 'query';
      this.#remove(notices);
      return;
    }
    await this.#unlessBefore('notice', notices, async () => {
      await this.#askOnce(row, 'the channel has news: asked now');
    });
  }

  /** Nothing is left to wait for: settled, or ended and watched long enough. */
  #isOver(row: PaymentSnapshot): boolean {
    if (row.status === 'succeeded') return row.orderUpdate !== 'pending';
    return isEnded(row.status) && this.#due === undefined && lateWaits(row, Date.now()).length === 0;
  }

  /** Between two things to do, with nobody waiting for an answer and nothing kept outside the ledger. */
  async #mayContinueAsNew(row: PaymentSnapshot): Promise<boolean> {
    // Before an end the channel is asked without being told to.
    if (this.#due !== undefined && !isToClose(row, Date.now())) return false;
    // What was answered just now is on its way to whoever asked; only for a next action may somebody wait on.
    if (row.status !== 'created')
      await wf.condition(() => wf.allHandlersFinished() || this.#inbox.length > 0);
    return wf.allHandlersFinished() && this.#inbox.length === 0;
  }

  /** Tried until the payment expires, which is the activity's own time-out: no timer runs beside it. */
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
            // It can expire while a person is being told.
            Date.now() < expiresAt
              ? await this.#channel(options).createAtChannel(this.#input.paymentId)
              : await this.#load(),
        );
      } catch (error) {
        if (!isOutOfTime(error)) throw error;
        // It began before the activity ended.
        if (mayRunOn(error)) this.#mayBeCreatedUntil = Math.min(expiresAt, Date.now()) + CREATE_ATTEMPT_MS;
        // The server ends it as soon as the next attempt would come after the expiry.
        const left = expiresAt - Date.now();
        if (left > 0) await wf.sleep(left, { summary: 'until it expires: no attempt fits in before' });
        // The last attempt may have written down more than it could return.
        this.#row = await this.#load();
      }
    });
  }

  #mayStillBeCreated(): boolean {
    return Date.now() < this.#mayBeCreatedUntil;
  }

  /**
   * The server gives an attempt up at the expiry, and the worker goes on with it; an attempt that failed without an answer
   * goes on at the channel. A channel that was asked meanwhile would say that it knows no such trade; the
   * payment would end, and the trade would stay open once it is created.
   */
  async #awaitLastAttempt(): Promise<void> {
    const left = this.#mayBeCreatedUntil - Date.now();
    const summary = 'until the attempt to create the trade that was under way at its expiry is over';
    await wf.condition(() => this.#inbox.length > 0, left, { summary });
    this.#row = await this.#load();
  }

  /**
   * A new next action for the payer, or none if the channel does not give one soon: the queries must go on. One attempt
   * answers everybody who waits for it.
   * @param until epoch ms, by which the first of them is answered.
   */
  async #renewAction(until: number, row: PaymentSnapshot): Promise<void> {
    const left = until - Date.now();
    // Nobody is to pay any more what is about to end.
    if (row.status === 'paying' && !row.cancelRequested && Date.now() < row.expiresAt && left > 0) {
      const finished = await this.#unlessBefore('renewAction', [], async () => {
        try {
          this.#row = await this.#channel({
            ...RENEW_ACTION,
            // Nobody may be there to take the task.
            scheduleToCloseTimeout: left,
            summary: 'a new next action, as the old one has expired',
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

  /** The end of an unpaid payment: ask, and only if it is unpaid close it at the channel. */
  async #close(row: PaymentSnapshot): Promise<void> {
    const to = row.cancelRequested && row.noAction !== true ? 'cancelled' : 'closed';
    const alarm: Alarm = {
      after: ALARM_AFTER.close,
      attention: 'channel_unreachable',
      detail: `The payment is to be ${to}, and the channel does not answer.`,
    };
    await this.#untilDoneOrMessage(async () => {
      this.#row = await this.#alarmed(
        alarm,
        () => ({ ...CLOSE_TRADE, summary: `ask, before it is ${to}` }),
        (options) => this.#channel(options).askBeforeEnd(row.id),
      );
      this.#due = undefined;
      if (!isLive(this.#row.status) || hasMoney(this.#row)) return;
      if (this.#row.channelState === 'processing') return;
      const { snapshot, closed } = await this.#alarmed(
        alarm,
        () => ({ ...CLOSE_TRADE, summary: `close at the channel, then ${to}` }),
        (options) => this.#channel(options).closeAtChannel(row.id, to),
      );
      this.#row = snapshot;
      if (closed === 'already_paid') await this.#awaitQueryAfterClose(snapshot);
      else this.#contradictions = 0;
    });
  }

  /** The channel's query lags behind its close: it will say paid. Until it does, nobody can tell how much came in. */
  async #awaitQueryAfterClose(row: PaymentSnapshot): Promise<void> {
    const lag = closeLag(this.#contradictions);
    this.#contradictions += 1;
    if (this.#contradictions >= ALARM_AFTER.close && row.attention === null) {
      const detail = 'The channel refuses to close the payment as it is paid, and its query does not say so.';
      await this.#show('channel_unreachable', detail);
    }
    await wf.sleep(lag, { summary: 'the close says paid: asked again' });
  }

  #channel(options: wf.ActivityOptions): wf.ActivityInterfaceFor<ChannelActivities> {
    return wf.proxyActivities<ChannelActivities>({
      taskQueue: channelTaskQueue(this.#input.channel),
      ...options,
    });
  }

  /** Waits for the next query's time or a message, whichever comes first; then one activity asks on schedule. */
  async #waitAndAsk(row: PaymentSnapshot): Promise<void> {
    const due = this.#due;
    const plan = queryPlan(row, this.#input.queryScheduleMs, Date.now());
    let waits = due === 'tight' ? plan.afterHint : plan.waits;
    if (due === undefined) {
      const first = waits[0] ?? Math.max(0, plan.endsAt - Date.now());
      wf.setCurrentDetails(describePayment(row, { at: Date.now() + first, waits: [] }));
      const summary =
        waits.length === 0 ? 'until it expires' : 'until the next query, unless a callback comes first';
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
            // Of any other it can be unknown what the channel calls the trade.
            ...(row.status === 'paying' && !row.cancelRequested ? QUERY_TRADE : FIND_AND_QUERY_TRADE),
            summary: due === undefined ? plan.summary : 'asked at once after a hint, then on schedule',
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
    // It may not even have begun.
    if (!finished && this.#row?.channelAnsweredAt === row.channelAnsweredAt) this.#due ??= due;
  }

  /** One query answers everybody who asked before it began; who asks later is to hear what the channel says then. */
  async #ask(row: PaymentSnapshot): Promise<void> {
    const asks = this.#ofKind('ask');
    let answered = false;
    const finished = await this.#unlessBefore('ask', asks, async () => {
      answered = await this.#askOnce(row, 'asked now by an operator');
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
      // Its answer may have been written down though the activity did not live to return it.
      this.#row = await this.#load();
      return false;
    }
  }

  /** Settles the money on record, if there is any. */
  async #updateOrder(): Promise<void> {
    const { paymentId, merchantId, orderId } = this.#input;
    const owned = { paymentId, merchantId, orderId };
    const updated = await atOnce.updateOrder(owned).catch(async (error: unknown) => {
      // Whatever it was, a lost row too: the regular activity goes on, visibly and without end.
      if (!isLocalFailure(error)) throw error;
      return await this.#alarmed(
        {
          after: ALARM_AFTER.updateOrder,
          attention: 'order_update_failing',
          detail: 'The money is in, and the order does not take it.',
        },
        () => ({ ...LEDGER, summary: UPDATE_ORDER_SUMMARY }),
        (options) => wf.proxyActivities<LedgerActivities>(options).updateOrder(owned),
      );
    });
    this.#row = updated.snapshot;
    // Signals, and the start of a refund, wait for nobody but the Temporal server, as every timer does.
    for (const other of updated.cancelled) {
      // Their wish to cancel is in the ledger; one whose workflow is not running is the sweep's.
      await wf
        .getExternalWorkflowHandle(paymentWorkflowId(other))
        .signal(cancelSignal)
        .catch(() => undefined);
    }
    if (updated.refund !== null) await this.#startRefund(updated.refund);
  }

  /** Our order is paid; the merchant's own order service is told until it agrees, or refuses for good. */
  async #deliverToOrderService(): Promise<void> {
    let refund: string | null = null;
    const isCalledOff = () => this.#inbox.some(concernsSettledPayment);
    const work = async () => {
      const told = await wf
        .proxyActivities<DeliverEventActivities>({
          ...DELIVER_TO_ORDER_SERVICE,
          summary: 'tell the order service that the order is paid, until it agrees',
        })
        .tellOrderService(this.#input.paymentId);
      this.#row = told.snapshot;
      this.#deliveryProgress = told.telling;
      refund = told.refund;
    };
    await this.#untilDoneOrMessage(work, undefined, isCalledOff);
    if (refund !== null) await this.#startRefund(refund);
  }

  /** It is in the ledger: one whose workflow cannot be started now, or runs already, is the sweep's. */
  async #startRefund(refundId: string): Promise<void> {
    await wf
      .startChild(REFUND_WORKFLOW, {
        workflowId: refundWorkflowId(refundId),
        workflowIdReusePolicy: 'ALLOW_DUPLICATE',
        parentClosePolicy: 'ABANDON',
        args: [
          { refundId, paymentId: this.#input.paymentId, channel: this.#input.channel } satisfies RefundInput,
        ],
        staticSummary: `what came in by payment ${this.#input.paymentId} goes back by ${this.#input.channel}`,
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
   * Work that is not given up before its time-out, or never: after so many attempts a person is told, and it goes on.
   * @param optionsNow what is left of a time-out is another time with each activity.
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

  /** Raises the attention. False when that was not possible soon. */
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
   * Does the work until it is done, a message comes in, or `timeoutMs` have passed; then calls it off.
   * @returns whether it was done
   */
  async #untilDoneOrMessage(
    work: () => Promise<void>,
    timeoutMs?: number,
    isInterrupted: () => boolean = () => this.#inbox.length > 0,
  ): Promise<boolean> {
    const finished = await untilDoneOrMessage(
      work,
      isInterrupted,
      timeoutMs === undefined ? undefined : { ms: timeoutMs, summary: 'until it expires' },
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

  /** Shows the state where people look: search attributes and the current details. */
  #publish(row: PaymentSnapshot): void {
    // As they are now: whoever started this run set some, a run before it, or `whileRowMissing`.
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
 * True when nothing can have happened to the row yet, so that it need not be read: whoever started the run had just
 * written it, and that was a moment ago by the clock of the run. The input says so again in a run that was reset.
 */
function isUntouched({ isNew, createdAt }: PaymentInput): boolean {
  return isNew === true && Date.now() - createdAt < NEW_FOR_MS;
}

/**
 * True when an activity has used up its time as a whole, or when no further attempt fits into it; not when its attempts
 * are used up. The server says schedule-to-start of one that nobody took within its schedule-to-close time-out.
 */
function isOutOfTime(error: unknown): boolean {
  if (!(error instanceof wf.ActivityFailure)) return false;
  const { cause, retryState } = error;
  if (retryState === 'TIMEOUT') return true;
  return cause instanceof wf.TimeoutFailure && cause.timeoutType !== 'START_TO_CLOSE';
}

/**
 * True when the work of an activity that ended without a result may still be under way. An attempt that was given up goes
 * on all the same; of one that failed by our own time limit the request goes on at the channel. Not when nobody took it.
 */
function mayRunOn(error: unknown): boolean {
  if (!(error instanceof wf.ActivityFailure)) return false;
  const { cause } = error;
  return !(cause instanceof wf.TimeoutFailure && cause.timeoutType === 'SCHEDULE_TO_START');
}

/** The channel never said that it created the trade, and has it: it decides, and there is nothing to create. */
function isInProcess(row: PaymentSnapshot): boolean {
  return row.channelState === 'processing';
}
