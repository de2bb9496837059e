import { type Client, WithStartWorkflowOperation } from '@temporalio/client';
import { defineSearchAttributeKey, type SignalDefinition } from '@temporalio/common';
import { amountText } from '../domain/money.ts';
import { MAIN_TASK_QUEUE, paymentWorkflowId } from '../domain/names.ts';
import type { CallbackNotice } from '../domain/payment.ts';
import { inMarkdown } from '../domain/text.ts';
import type { Payment } from '../ledger/rows.ts';
import {
  askChannelUpdate,
  callbackSignal,
  cancelSignal,
  hintSignal,
  nextActionUpdate,
  noticeSignal,
  PAYMENT_WORKFLOW,
  type PaymentInput,
  searchAttributes,
  wakeSignal,
} from '../workflows/messages.ts';

/** Temporal did not confirm within the deadline. Nothing is known of what it did; saying it again is safe. */
export class TemporalUnavailable extends Error {
  override readonly name = 'TemporalUnavailable';
}

/**
 * Races the call itself: while the SDK waits between its own tries, aborting it has no effect.
 * @throws TemporalUnavailable
 */
export async function confirmedWithin<T>(
  client: Client,
  deadlineMs: number,
  call: () => Promise<T>,
): Promise<T> {
  const giveUp = new AbortController();
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => {
      giveUp.abort();
      reject(new Error('no answer in time'));
    }, deadlineMs);
  });
  try {
    return await Promise.race([client.withAbortSignal(giveUp.signal, call), late]);
  } catch (error) {
    throw new TemporalUnavailable(`Temporal did not confirm within ${deadlineMs} ms`, { cause: error });
  } finally {
    clearTimeout(timer);
  }
}

/** Of the deadline of a start, what is kept to find out whether the run is there. */
const IS_RUNNING_MS = 1_000;

/** The waits between active queries of a channel, in ms. */
export interface QuerySchedules {
  queryScheduleMs(channel: string): readonly number[];
}

type PaymentWorkflow = (input: PaymentInput) => Promise<void>;

/**
 * Everything anybody says to a payment's workflow. Each call starts the workflow when it is not running, with
 * input from the payment's row, so that no message is lost because no run exists.
 *
 * Every call has a deadline in ms: the SDK alone waits 21 s for a dead server, and without end when no worker runs.
 */
export class PaymentWorkflows {
  readonly #client: Client;
  readonly #schedules: QuerySchedules;

  constructor(client: Client, schedules: QuerySchedules) {
    this.#client = client;
    this.#schedules = schedules;
  }

  /** Confirms that the workflow runs. Harmless when it already does. @throws TemporalUnavailable */
  async wake(payment: Payment, deadlineMs: number): Promise<void> {
    await this.#signal(payment, wakeSignal, [], deadlineMs);
  }

  /** @throws TemporalUnavailable */
  async deliverCallback(payment: Payment, notice: CallbackNotice, deadlineMs: number): Promise<void> {
    await this.#signal(payment, callbackSignal, [notice], deadlineMs);
  }

  /** @throws TemporalUnavailable */
  async hint(payment: Payment, tight: boolean, deadlineMs: number): Promise<void> {
    await this.#signal(payment, hintSignal, [{ tight }], deadlineMs);
  }

  /** The channel has news of it, which is in the ledger: the channel is asked. @throws TemporalUnavailable */
  async notice(payment: Payment, deadlineMs: number): Promise<void> {
    await this.#signal(payment, noticeSignal, [], deadlineMs);
  }

  /** The wish itself is in the ledger. @throws TemporalUnavailable */
  async cancel(payment: Payment, deadlineMs: number): Promise<void> {
    await this.#signal(payment, cancelSignal, [], deadlineMs);
  }

  /**
   * Starts the workflow of a payment that is to become payable; the ledger says when it is. Harmless when it runs.
   * @param isNew the caller has just written the row: the run need not read it first.
   * @throws TemporalUnavailable when the start was not confirmed.
   */
  async start(payment: Payment, isNew: boolean, deadlineMs: number): Promise<void> {
    try {
      await this.#within(deadlineMs - IS_RUNNING_MS, () =>
        this.#client.workflow.start<PaymentWorkflow>(PAYMENT_WORKFLOW, {
          ...this.#startOptions(payment, isNew),
          workflowIdConflictPolicy: 'USE_EXISTING',
        }),
      );
    } catch (error) {
      // Only its answer may have got lost.
      if (!(await this.#isRunning(payment))) throw error;
    }
  }

  /**
   * Makes the expired next action of a payment that is `paying` anew; when that is not possible soon, or something else
   * goes before it, the old one stays. Of a payment that is `created` it waits until it has left that.
   * @returns true when it has; false when the run is there but did not get so far within the deadline.
   * @throws TemporalUnavailable when the start was not confirmed.
   */
  async awaitNextAction(payment: Payment, deadlineMs: number): Promise<boolean> {
    try {
      await this.#within(deadlineMs - IS_RUNNING_MS, async () => {
        await this.#client.workflow.executeUpdateWithStart(nextActionUpdate, {
          startWorkflowOperation: this.#startOperation(payment),
        });
      });
      return true;
    } catch (error) {
      // No worker running looks just like no server here, yet then the run exists and goes on by itself.
      if (await this.#isRunning(payment)) return false;
      throw error;
    }
  }

  /**
   * Asks the channel once, now; its answer is in the ledger when this returns true.
   * @returns false when the channel gave no readable answer.
   * @throws TemporalUnavailable
   */
  async askChannel(payment: Payment, deadlineMs: number): Promise<boolean> {
    return await this.#within(deadlineMs, () =>
      this.#client.workflow.executeUpdateWithStart(askChannelUpdate, {
        startWorkflowOperation: this.#startOperation(payment),
      }),
    );
  }

  async #signal<Args extends unknown[]>(
    payment: Payment,
    signal: SignalDefinition<Args>,
    signalArgs: Args,
    deadlineMs: number,
  ): Promise<void> {
    await this.#within(deadlineMs, () =>
      this.#client.workflow.signalWithStart<PaymentWorkflow, unknown[]>(PAYMENT_WORKFLOW, {
        ...this.#startOptions(payment),
        signal: signal.name,
        signalArgs,
      }),
    );
  }

  async #isRunning(payment: Payment): Promise<boolean> {
    try {
      const description = await this.#within(IS_RUNNING_MS, () =>
        this.#client.workflow.getHandle(paymentWorkflowId(payment.id)).describe(),
      );
      return description.status.name === 'RUNNING';
    } catch {
      return false;
    }
  }

  async #within<T>(deadlineMs: number, call: () => Promise<T>): Promise<T> {
    return await confirmedWithin(this.#client, deadlineMs, call);
  }

  #startOperation(payment: Payment) {
    return new WithStartWorkflowOperation<PaymentWorkflow>(PAYMENT_WORKFLOW, {
      ...this.#startOptions(payment),
      workflowIdConflictPolicy: 'USE_EXISTING',
    });
  }

  #startOptions(payment: Payment, isNew = false) {
    const input: PaymentInput = {
      paymentId: payment.id,
      merchantId: payment.merchantId,
      orderId: payment.orderId,
      channel: payment.channel,
      channelAccountId: payment.channelAccountId,
      method: payment.method,
      amount: Number(payment.amount),
      currency: payment.currency,
      createdAt: payment.createdAt.getTime(),
      expiresAt: payment.expiresAt.getTime(),
      ...(payment.adopted === null || payment.reference === null
        ? {}
        : { adoption: { reference: payment.reference, as: payment.adopted } }),
      queryScheduleMs: this.#schedules.queryScheduleMs(payment.channel),
      ...(isNew ? { isNew } : {}),
    };
    return {
      taskQueue: MAIN_TASK_QUEUE,
      workflowId: paymentWorkflowId(payment.id),
      workflowIdReusePolicy: 'ALLOW_DUPLICATE' as const,
      args: [input] as [PaymentInput],
      staticSummary: `${amountText(payment.amount, payment.currency)} through ${payment.channel}, order ${inMarkdown(payment.orderId)}`,
      typedSearchAttributes: [
        { key: defineSearchAttributeKey(searchAttributes.status, 'KEYWORD'), value: payment.status },
        { key: defineSearchAttributeKey(searchAttributes.channel, 'KEYWORD'), value: payment.channel },
        { key: defineSearchAttributeKey(searchAttributes.orderId, 'KEYWORD'), value: payment.orderId },
      ],
    };
  }
}
