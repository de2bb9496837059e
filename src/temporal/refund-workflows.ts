import type { Client } from '@temporalio/client';
import { defineSearchAttributeKey } from '@temporalio/common';
import { amountText } from '../domain/money.ts';
import { MAIN_TASK_QUEUE, refundWorkflowId } from '../domain/names.ts';
import type { RefundSnapshot } from '../domain/refund.ts';
import { inMarkdown } from '../domain/text.ts';
import {
  REFUND_WORKFLOW,
  type RefundInput,
  refundCallbackSignal,
  searchAttributes,
  wakeSignal,
} from '../workflows/messages.ts';
import { confirmedWithin } from './payment-workflows.ts';

type RefundWorkflow = (input: RefundInput) => Promise<void>;

/**
 * Starts and signals the workflows of refunds. Each method has a deadline in ms, and starts the workflow if it does not
 * run.
 */
export class RefundWorkflows {
  readonly #client: Client;

  constructor(client: Client) {
    this.#client = client;
  }

  /**
   * Starts the workflow of a refund. If the workflow already runs and waits because its row was lost, the call makes it
   * read the row again. If it runs normally, the call has no effect.
   * @throws TemporalUnavailable
   */
  async start(refund: RefundSnapshot, deadlineMs: number): Promise<void> {
    await confirmedWithin(this.#client, deadlineMs, () =>
      this.#client.workflow.signalWithStart<RefundWorkflow, []>(REFUND_WORKFLOW, {
        ...startOptions(refund),
        signal: wakeSignal.name,
        signalArgs: [],
      }),
    );
  }

  /** Forwards a stored callback to the refund's workflow. @throws TemporalUnavailable */
  async deliverCallback(refund: RefundSnapshot, callbackId: string, deadlineMs: number): Promise<void> {
    await confirmedWithin(this.#client, deadlineMs, () =>
      this.#client.workflow.signalWithStart<RefundWorkflow, [string]>(REFUND_WORKFLOW, {
        ...startOptions(refund),
        signal: refundCallbackSignal.name,
        signalArgs: [callbackId],
      }),
    );
  }
}

function startOptions(refund: RefundSnapshot) {
  return {
    taskQueue: MAIN_TASK_QUEUE,
    workflowId: refundWorkflowId(refund.id),
    workflowIdReusePolicy: 'ALLOW_DUPLICATE' as const,
    args: [{ refundId: refund.id, paymentId: refund.paymentId, channel: refund.channel }] as [RefundInput],
    staticSummary: `refund of ${amountText(refund.amount, refund.currency)} through ${refund.channel}, order ${inMarkdown(refund.orderId)}`,
    typedSearchAttributes: [
      { key: defineSearchAttributeKey(searchAttributes.channel, 'KEYWORD'), value: refund.channel },
      { key: defineSearchAttributeKey(searchAttributes.orderId, 'KEYWORD'), value: refund.orderId },
    ],
  };
}
