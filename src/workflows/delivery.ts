import * as wf from '@temporalio/workflow';
import type { DeliverEventActivities } from '../activities/deliver-event.ts';
import type { LedgerActivities } from '../activities/ledger.ts';
import type { DeliverySnapshot } from '../domain/delivery.ts';
import { DELIVER_TO_ORDER_SERVICE } from './activity-options.ts';
import { untilDoneOrMessage } from './interruptible.ts';
import { localActivities } from './local-activities.ts';
import { isRowLost, readRow, whileRowMissing } from './lost-row.ts';
import { type DeliveryInput, redeliverSignal, wakeSignal } from './messages.ts';
import { describeDelivery, describeUnreadable } from './web-ui-text.ts';

const reads = localActivities<Pick<LedgerActivities, 'loadDelivery'>>();

/**
 * Delivers one event to the merchant's order service, and retries until the service gives a definite answer. If a
 * payment waits for the event, the payment's own workflow delivers it, and this workflow ends immediately.
 */
export async function delivery(input: DeliveryInput): Promise<void> {
  const run = new DeliveryRun(input);
  wf.setHandler(wakeSignal, () => run.wake());
  wf.setHandler(redeliverSignal, () => run.redeliver());
  // "Request Cancellation" in the Web UI must not stop a delivery.
  await wf.CancellationScope.nonCancellable(() => run.run());
}

class DeliveryRun {
  readonly #input: DeliveryInput;
  /** The newest state of the delivery that this run has read. Null once the event has been deleted. */
  #row: DeliverySnapshot | null = null;
  #isWoken = false;
  /** How many signals this run has received so far. */
  #messagesReceived = 0;
  /** The number of requested redeliveries of a settled delivery that this run must still make. */
  #redeliveries = 0;

  constructor(input: DeliveryInput) {
    this.#input = input;
  }

  wake(): void {
    this.#messagesReceived += 1;
    this.#isWoken = true;
  }

  redeliver(): void {
    this.wake();
    this.#redeliveries += 1;
  }

  async run(): Promise<void> {
    await whileRowMissing(
      () => this.#load(),
      // The delivery's row was deleted during the work, so nothing is left to deliver.
      (row) =>
        this.#process(row).catch((error: unknown) => {
          if (!isRowLost(error)) throw error;
        }),
      {
        onMissing: (_, nextLookAt) => wf.setCurrentDetails(describeUnreadable(nextLookAt)),
        messages: () => this.#messagesReceived,
        mayRenew: () => this.#redeliveries === 0,
        renew: () => wf.continueAsNew<typeof delivery>(this.#input),
      },
    );
  }

  async #process(loaded: DeliverySnapshot | null): Promise<void> {
    this.#row = loaded;
    for (;;) {
      const row: DeliverySnapshot | null = this.#row;
      if (row === null) return;
      wf.setCurrentDetails(describeDelivery(row));
      if (this.#isWoken) {
        this.#isWoken = false;
        this.#row = await this.#load();
      } else if (row.status !== 'pending') {
        if (this.#redeliveries === 0) return;
        this.#redeliveries -= 1;
        this.#row = await wf
          .proxyActivities<DeliverEventActivities>({
            ...DELIVER_TO_ORDER_SERVICE,
            summary: 'deliver again, as a person requested',
          })
          .redeliverEvent(row.id);
      } else if (row.toldByPayment) {
        return;
      } else if (wf.workflowInfo().continueAsNewSuggested) {
        await wf.continueAsNew<typeof delivery>(this.#input);
      } else {
        // The API makes the delivery due in the ledger before it sends this signal.
        this.#redeliveries = 0;
        await this.#deliver(row);
      }
    }
  }

  async #deliver(row: DeliverySnapshot): Promise<void> {
    await untilDoneOrMessage(
      async () => {
        this.#row = await wf
          .proxyActivities<DeliverEventActivities>({
            ...DELIVER_TO_ORDER_SERVICE,
            summary: `deliver ${row.type} to the order service, until it answers`,
          })
          .deliverEvent(row.id);
      },
      () => this.#isWoken,
    );
  }

  async #load(): Promise<DeliverySnapshot | null> {
    return await readRow(() => reads.loadDelivery(this.#input.deliveryId));
  }
}
