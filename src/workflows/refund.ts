import * as wf from '@temporalio/workflow';
import type { RefundChannelActivities, RefundLedgerActivities } from '../activities/refund.ts';
import { channelTaskQueue, pollTaskQueue } from '../domain/names.ts';
import type { RefundSnapshot } from '../domain/refund.ts';
import { REFUND_QUERY_MS } from '../domain/refund.ts';
import { endlessWaits } from '../domain/schedule.ts';
import { isRefundOpen } from '../domain/states.ts';
import { ASK_TRADE_OF_REFUND, LEDGER_BRIEFLY, QUERY_REFUND, REFUND_TRADE } from './activity-options.ts';
import { untilDoneOrMessage } from './interruptible.ts';
import { localActivities } from './local-activities.ts';
import { present, readRow, whileRowMissing } from './lost-row.ts';
import { type RefundInput, refundCallbackSignal, wakeSignal } from './messages.ts';
import { describeLostRefund, describeRefund, describeUnreadable } from './web-ui-text.ts';

/** Recording a callback is retried for only 30 s, because a query of the channel reports the same as the callback. */
const callbacks = wf.proxyActivities<Pick<RefundLedgerActivities, 'recordRefundCallback'>>(LEDGER_BRIEFLY);

const reads = localActivities<Pick<RefundLedgerActivities, 'loadRefund'>>();

/**
 * Runs one refund until the channel has made its final decision. The workflow requests the refund under the same number
 * until the channel answers. Then it queries the refund while the channel processes the refund. The workflow has no
 * deadline. The signal handlers only add to the inbox. `run` is the one loop that owns the state, and it reads the
 * ledger before each decision.
 */
export async function refund(input: RefundInput): Promise<void> {
  const run = new RefundRun(input);
  wf.setHandler(refundCallbackSignal, (callbackId) => run.post(callbackId));
  wf.setHandler(wakeSignal, () => run.wake());
  // "Request Cancellation" in the Web UI must not stop a refund that is due.
  await wf.CancellationScope.nonCancellable(() => run.run());
}

class RefundRun {
  readonly #input: RefundInput;
  /** The ids of stored callbacks whose reports are not recorded yet. */
  readonly #inbox: string[] = [];
  /** How many signals this run has received so far. */
  #messagesReceived = 0;
  #row: RefundSnapshot | undefined;
  /** True after a callback arrived. If the refund is still open, the channel is then queried immediately. */
  #due = false;
  /**
   * True after a callback settled the refund or could not be recorded. The trade is then queried for refunds that
   * nodrop did not request.
   */
  #tradeDue = false;
  /**
   * True after a query reported that the channel does not know the refund number, or that the channel wants the
   * request again.
   */
  #askAgain = false;
  /** The time at which this run began to wait for the channel's decision. */
  #waitingSince: number | undefined;

  constructor(input: RefundInput) {
    this.#input = input;
  }

  post(callbackId: string): void {
    this.wake();
    this.#inbox.push(callbackId);
  }

  /** If the refund's row is missing, this signal makes the run read it again. Otherwise the signal has no effect. */
  wake(): void {
    this.#messagesReceived += 1;
  }

  async run(): Promise<void> {
    await whileRowMissing(
      () => this.#load(),
      (row) => this.#process(row),
      {
        onMissing: (why, nextLookAt) =>
          wf.setCurrentDetails(
            why === 'lost'
              ? describeLostRefund(this.#input.refundId, nextLookAt)
              : describeUnreadable(nextLookAt),
          ),
        messages: () => this.#messagesReceived,
        mayRenew: () => this.#inbox.length === 0 && !this.#due && !this.#tradeDue,
        renew: () => wf.continueAsNew<typeof refund>(this.#input),
      },
    );
  }

  async #process(loaded: RefundSnapshot): Promise<void> {
    this.#row = loaded;
    for (;;) {
      const row: RefundSnapshot = this.#row;
      wf.setCurrentDetails(describeRefund(row, undefined));
      const callbackId = this.#inbox.shift();
      if (callbackId !== undefined) {
        this.#row = await this.#recordCallback(row, callbackId);
        this.#due = true;
        if (isRefundOpen(row.status) && !isRefundOpen(this.#row.status)) this.#tradeDue = true;
      } else if (!isRefundOpen(row.status)) {
        if (row.isToLookAgain === true) await this.#lookAgain(row);
        else if (this.#tradeDue) await this.#askTrade(row);
        else return;
      } else if (wf.workflowInfo().continueAsNewSuggested) {
        await wf.continueAsNew<typeof refund>(this.#input);
      } else if (row.status === 'created' || this.#askAgain) {
        await this.#ask(row);
      } else {
        await this.#waitAndQuery(row);
      }
    }
  }

  /** A callback that cannot be recorded within 30 s must not block the refund or the next callback. */
  async #recordCallback(row: RefundSnapshot, callbackId: string): Promise<RefundSnapshot> {
    try {
      return await callbacks.recordRefundCallback(row.id, callbackId);
    } catch (error) {
      if (!(error instanceof wf.ActivityFailure)) throw error;
      this.#tradeDue = true;
      return row;
    }
  }

  async #ask(row: RefundSnapshot): Promise<void> {
    await this.#untilDoneOrMessage(async () => {
      this.#row = await wf
        .proxyActivities<RefundChannelActivities>({
          taskQueue: channelTaskQueue(this.#input.channel),
          ...REFUND_TRADE,
          summary: 'request the refund at the channel',
        })
        .refundAtChannel(row.id);
      this.#askAgain = false;
    });
  }

  /** Waits until the next query is due or a callback arrives. Then one activity sends the scheduled queries. */
  async #waitAndQuery(row: RefundSnapshot): Promise<void> {
    this.#waitingSince ??= Date.now();
    const waits = endlessWaits(REFUND_QUERY_MS, Date.now() - this.#waitingSince);
    const [first = 0, ...rest] = waits;
    if (!this.#due) {
      wf.setCurrentDetails(describeRefund(row, { at: Date.now() + first, waits: [] }));
      const interrupted = await wf.condition(() => this.#inbox.length > 0, first, {
        summary: 'the channel is processing the refund: until the next query',
      });
      if (interrupted) return;
    }
    const [next = first, ...later] = this.#due ? waits : rest;
    this.#due = false;
    wf.setCurrentDetails(describeRefund(row, { at: Date.now(), waits }));
    await this.#untilDoneOrMessage(async () => {
      const asked = await wf
        .proxyActivities<RefundChannelActivities>({
          taskQueue: pollTaskQueue(this.#input.channel),
          ...QUERY_REFUND,
          summary: 'the channel is processing the refund: query on schedule',
        })
        .queryRefund({ refundId: row.id, waits: [next, ...later] });
      this.#row = asked.snapshot;
      this.#askAgain = !asked.known;
    });
  }

  async #askTrade(row: RefundSnapshot): Promise<void> {
    await this.#untilDoneOrMessage(async () => {
      await wf
        .proxyActivities<RefundChannelActivities>({
          taskQueue: channelTaskQueue(this.#input.channel),
          ...ASK_TRADE_OF_REFUND,
          summary: 'query the trade for refunds that nodrop did not request',
        })
        .askTradeOfRefund(row.id);
      this.#tradeDue = false;
    });
  }

  /** Checks a refund that succeeded some days ago, because the payer's bank may have returned the money since. */
  async #lookAgain(row: RefundSnapshot): Promise<void> {
    await this.#untilDoneOrMessage(async () => {
      this.#row = await wf
        .proxyActivities<RefundChannelActivities>({
          taskQueue: channelTaskQueue(this.#input.channel),
          ...ASK_TRADE_OF_REFUND,
          summary: 'query whether the bank returned the money',
        })
        .lookAgainAtRefund(row.id);
    });
  }

  /**
   * Does the work until it is done or a callback arrives. If a callback arrives first, cancels the work and reads the
   * row again.
   */
  async #untilDoneOrMessage(work: () => Promise<void>): Promise<void> {
    const finished = await untilDoneOrMessage(work, () => this.#inbox.length > 0);
    if (!finished) this.#row = await this.#load();
  }

  async #load(): Promise<RefundSnapshot> {
    return present(await readRow(() => reads.loadRefund(this.#input.refundId)));
  }
}
