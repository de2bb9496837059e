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

/** Bounded: what a callback says, the channel says as well when it is asked. */
const callbacks = wf.proxyActivities<Pick<RefundLedgerActivities, 'recordRefundCallback'>>(LEDGER_BRIEFLY);

const reads = localActivities<Pick<RefundLedgerActivities, 'loadRefund'>>();

/**
 * One refund, from its row in the ledger until the channel has said its last word: asked for under the same number
 * until there is an answer, then queried while the channel has it in process. Never given up.
 *
 * The handler only appends to the inbox; `run` is the one loop that owns the state, and it reads the ledger before
 * it decides anything.
 */
export async function refund(input: RefundInput): Promise<void> {
  const run = new RefundRun(input);
  wf.setHandler(refundCallbackSignal, (callbackId) => run.post(callbackId));
  wf.setHandler(wakeSignal, () => run.wake());
  // Money that is owed goes back, whatever is pressed in the Web UI.
  await wf.CancellationScope.nonCancellable(() => run.run());
}

class RefundRun {
  readonly #input: RefundInput;
  /** Ids of stored callbacks. */
  readonly #inbox: string[] = [];
  /** How many messages have come in so far. */
  #told = 0;
  #row: RefundSnapshot | undefined;
  /** A callback came that did not settle it: the channel is asked at once. */
  #due = false;
  /** A callback settled it, or could not be written down: what others gave back only the trade knows. */
  #tradeDue = false;
  /** The channel does not know the number after all. */
  #askAgain = false;
  /** Since when this run waits for the channel's decision. */
  #waitingSince: number | undefined;

  constructor(input: RefundInput) {
    this.#input = input;
  }

  post(callbackId: string): void {
    this.wake();
    this.#inbox.push(callbackId);
  }

  /** Matters while its row is missing: the row is looked for again. */
  wake(): void {
    this.#told += 1;
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
        messages: () => this.#told,
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

  /** What cannot be written down soon keeps neither the refund nor the next callback waiting. */
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
          summary: 'ask the channel to give the money back',
        })
        .refundAtChannel(row.id);
      this.#askAgain = false;
    });
  }

  /** Waits for the next query's time or a callback, whichever comes first; then one activity asks on schedule. */
  async #waitAndQuery(row: RefundSnapshot): Promise<void> {
    this.#waitingSince ??= Date.now();
    const waits = endlessWaits(REFUND_QUERY_MS, Date.now() - this.#waitingSince);
    const [first = 0, ...rest] = waits;
    if (!this.#due) {
      wf.setCurrentDetails(describeRefund(row, { at: Date.now() + first, waits: [] }));
      const told = await wf.condition(() => this.#inbox.length > 0, first, {
        summary: 'the channel has it in process: asked on schedule',
      });
      if (told) return;
    }
    const [next = first, ...later] = this.#due ? waits : rest;
    this.#due = false;
    wf.setCurrentDetails(describeRefund(row, { at: Date.now(), waits }));
    await this.#untilDoneOrMessage(async () => {
      const asked = await wf
        .proxyActivities<RefundChannelActivities>({
          taskQueue: pollTaskQueue(this.#input.channel),
          ...QUERY_REFUND,
          summary: 'the channel has it in process: asked on schedule',
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
          summary: 'ask what others gave back meanwhile',
        })
        .askTradeOfRefund(row.id);
      this.#tradeDue = false;
    });
  }

  /** It succeeded, and may have failed since. */
  async #lookAgain(row: RefundSnapshot): Promise<void> {
    await this.#untilDoneOrMessage(async () => {
      this.#row = await wf
        .proxyActivities<RefundChannelActivities>({
          taskQueue: channelTaskQueue(this.#input.channel),
          ...ASK_TRADE_OF_REFUND,
          summary: 'ask whether the money came back',
        })
        .lookAgainAtRefund(row.id);
    });
  }

  /** Does the work until it is done or a callback comes in; then calls it off. */
  async #untilDoneOrMessage(work: () => Promise<void>): Promise<void> {
    const finished = await untilDoneOrMessage(work, () => this.#inbox.length > 0);
    if (!finished) this.#row = await this.#load();
  }

  async #load(): Promise<RefundSnapshot> {
    return present(await readRow(() => reads.loadRefund(this.#input.refundId)));
  }
}
