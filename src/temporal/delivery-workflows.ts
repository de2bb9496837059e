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
 * Everything anybody says to a delivery's workflow. Each call starts the workflow when it is not running, and has a
 * deadline in ms, as those of PaymentWorkflows.
 */
export class DeliveryWorkflows {
  readonly #client: Client;

  constructor(client: Client) {
    this.#client = client;
  }

  /** Confirms that the workflow runs. Harmless when it already does. @throws TemporalUnavailable */
  async start(delivery: DeliverySnapshot, deadlineMs: number): Promise<void> {
    await confirmedWithin(this.#client, deadlineMs, () =>
      this.#client.workflow.start<DeliveryWorkflow>(DELIVERY_WORKFLOW, {
        ...startOptions(delivery),
        workflowIdConflictPolicy: 'USE_EXISTING',
      }),
    );
  }

  /** Look at the ledger again. @throws TemporalUnavailable */
  async wake(delivery: DeliverySnapshot, deadlineMs: number): Promise<void> {
    await this.#signal(delivery, wakeSignal, deadlineMs);
  }

  /** Tells the order service now, also of what is settled. @throws TemporalUnavailable */
  async redeliver(delivery: DeliverySnapshot, deadlineMs: number): Promise<void> {
    await this.#signal(delivery, redeliverSignal, deadlineMs);
  }

  /** Tells the merchant's order service what the ledger wants told. One that runs goes on. @throws TemporalUnavailable */
  async redeliverWaiting(merchantId: string, deadlineMs: number): Promise<void> {
    await confirmedWithin(this.#client, deadlineMs, () =>
      this.#client.workflow.start<RedeliveryWorkflow>(REDELIVERY_WORKFLOW, {
        taskQueue: MAIN_TASK_QUEUE,
        workflowId: redeliveryWorkflowId(merchantId),
        workflowIdReusePolicy: 'ALLOW_DUPLICATE',
        workflowIdConflictPolicy: 'USE_EXISTING',
        args: [{ merchantId }],
        staticSummary: `what waits for the order service of ${merchantId}`,
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
