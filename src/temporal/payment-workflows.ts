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

/**
 * Thrown if Temporal did not confirm a call within the deadline. The call may have succeeded, and the caller can safely
 * repeat the call.
 */
export class TemporalUnavailable extends Error {
  override readonly name = 'TemporalUnavailable';
}

/**
 * Makes a call to Temporal with a deadline. The function has its own timer for the deadline, because an abort of the
 * call has no effect while the SDK waits between two retries.
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

/**
 * The last part of the deadline of a start. If Temporal has not confirmed the start by then, the method checks in this
 * time whether the workflow runs.
 */
const IS_RUNNING_MS = 1_000;

/** The waits between scheduled queries of a channel, in ms. */
export interface QuerySchedules {
  queryScheduleMs(channel: string): readonly number[];
}

type PaymentWorkflow = (input: PaymentInput) => Promise<void>;

/**
 * Starts, signals and updates the workflows of payments. If the workflow of a payment does not run, each method starts
 * it with input from the payment's row, so that no message is lost. Every method has a deadline in ms. Without a
 * deadline, the SDK would wait 21 s if the Temporal server does not answer, and forever if no worker runs.
 */
export class PaymentWorkflows {
  readonly #client: Client;
  readonly #schedules: QuerySchedules;

  constructor(client: Client, schedules: QuerySchedules) {
    this.#client = client;
    this.#schedules = schedules;
  }

  /** Makes a payment's workflow read its row again. @throws TemporalUnavailable */
  async wake(payment: Payment, deadlineMs: number): Promise<void> {
    await this.#signal(payment, wakeSignal, [], deadlineMs);
  }

  /** Forwards a verified and stored callback to the payment's workflow. @throws TemporalUnavailable */
  async deliverCallback(payment: Payment, notice: CallbackNotice, deadlineMs: number): Promise<void> {
    await this.#signal(payment, callbackSignal, [notice], deadlineMs);
  }

  /** Forwards a hint of the payer to the payment's workflow. @throws TemporalUnavailable */
  async hint(payment: Payment, tight: boolean, deadlineMs: number): Promise<void> {
    await this.#signal(payment, hintSignal, [{ tight }], deadlineMs);
  }

  /**
   * Makes the payment's workflow query the channel after a notice. The notice is already in the ledger.
   * @throws TemporalUnavailable
   */
  async notice(payment: Payment, deadlineMs: number): Promise<void> {
    await this.#signal(payment, noticeSignal, [], deadlineMs);
  }

  /**
   * Signals to the payment's workflow that a cancellation was requested. The request is already in the ledger. @throws
   * TemporalUnavailable
   */
  async cancel(payment: Payment, deadlineMs: number): Promise<void> {
    await this.#signal(payment, cancelSignal, [], deadlineMs);
  }

  /**
   * Starts the workflow of a new payment. Does not wait until the payer can pay. Has no effect if the workflow already
   * runs.
   * @param isNew true if the caller has just inserted the row, so that the workflow need not read the row first
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
      // If only Temporal's answer was lost, Temporal has started the workflow.
      if (!(await this.#isRunning(payment))) throw error;
    }
  }

  /**
   * If the payment is in status `created`, waits until it leaves this status. If the payment is in status `paying` and
   * its next action has expired, renews the next action. If the renewal fails or takes too long, the expired action
   * stays.
   * @returns true when the workflow has completed the update; false when the workflow runs but has not completed the
   * update in time
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
      // This error does not show whether the worker or the Temporal server is down. If only the worker is down, the
      // workflow has been started and continues later.
      if (await this.#isRunning(payment)) return false;
      throw error;
    }
  }

  /**
   * Makes the payment's workflow query the channel once, now.
   * @returns true when the channel's answer is in the ledger; false when the workflow recorded no answer.
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
