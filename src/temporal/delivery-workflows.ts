import type { Client } from '@temporalio/client';
import { defineSearchAttributeKey, type SignalDefinition } from '@temporalio/common';
import type { DeliverySnapshot } from '../domain/delivery.ts';
import { deliveryWorkflowId, MAIN_TASK_QUEUE, redeliveryWorkflowId } from '../domain/names.ts';
import { inMarkdown } from '../domain/text.ts';
import {
  DELIVERY_WORKFLOW,
  type DeliveryInput,
  REDELIVERY_WORKFLOW,
  type RedeliveryInput,
  redeliverSignal,
  searchAttributes,
  wakeSignal,
} from '../workflows/messages.ts';
import { confirmedWithin } from './payment-workflows.ts';

type DeliveryWorkflow = (input: DeliveryInput) => Promise<void>;
type RedeliveryWorkflow = (input: RedeliveryInput) => Promise<void>;

/**
 * Starts and signals the workflows that deliver events to order services. Each method has a deadline in ms, and starts
 * the workflow if it does not run.
 */
export class DeliveryWorkflows {
  readonly #client: Client;

  constructor(client: Client) {
    this.#client = client;
  }

  /** Starts the workflow of a delivery. Has no effect if the workflow already runs. @throws TemporalUnavailable */
  async start(delivery: DeliverySnapshot, deadlineMs: number): Promise<void> {
    await confirmedWithin(this.#client, deadlineMs, () =>
      this.#client.workflow.start<DeliveryWorkflow>(DELIVERY_WORKFLOW, {
        ...startOptions(delivery),
        workflowIdConflictPolicy: 'USE_EXISTING',
      }),
    );
  }

  /** Makes a delivery's workflow read its row again. @throws TemporalUnavailable */
  async wake(delivery: DeliverySnapshot, deadlineMs: number): Promise<void> {
    await this.#signal(delivery, wakeSignal, deadlineMs);
  }

  /**
   * Makes the delivery's workflow deliver the event now, even if the delivery is already settled.
   * @throws TemporalUnavailable
   */
  async redeliver(delivery: DeliverySnapshot, deadlineMs: number): Promise<void> {
    await this.#signal(delivery, redeliverSignal, deadlineMs);
  }

  /**
   * Starts the redelivery of the merchant's waiting events. Has no effect if a redelivery for the merchant already
   * runs.
   * @throws TemporalUnavailable
   */
  async redeliverWaiting(merchantId: string, deadlineMs: number): Promise<void> {
    await confirmedWithin(this.#client, deadlineMs, () =>
      this.#client.workflow.start<RedeliveryWorkflow>(REDELIVERY_WORKFLOW, {
        taskQueue: MAIN_TASK_QUEUE,
        workflowId: redeliveryWorkflowId(merchantId),
        workflowIdReusePolicy: 'ALLOW_DUPLICATE',
        workflowIdConflictPolicy: 'USE_EXISTING',
        args: [{ merchantId }],
        staticSummary: `waiting events for the order service of ${merchantId}`,
      }),
    );
  }

  async #signal(delivery: DeliverySnapshot, signal: SignalDefinition, deadlineMs: number): Promise<void> {
    await confirmedWithin(this.#client, deadlineMs, () =>
      this.#client.workflow.signalWithStart<DeliveryWorkflow, []>(DELIVERY_WORKFLOW, {
        ...startOptions(delivery),
        signal: signal.name,
        signalArgs: [],
      }),
    );
  }
}

function startOptions(delivery: DeliverySnapshot) {
  return {
    taskQueue: MAIN_TASK_QUEUE,
    workflowId: deliveryWorkflowId(delivery.id),
    workflowIdReusePolicy: 'ALLOW_DUPLICATE' as const,
    args: [{ deliveryId: delivery.id }] as [DeliveryInput],
    staticSummary: `${delivery.type} of payment ${delivery.paymentId}, order ${inMarkdown(delivery.orderId)}, to the order service`,
    typedSearchAttributes: [
      { key: defineSearchAttributeKey(searchAttributes.orderId, 'KEYWORD'), value: delivery.orderId },
    ],
  };
}
