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
 * One event on its way to the order service, until that has an answer. Never given up. The event on which its payment
 * waits is told by the payment's own workflow; when such a one is started here, it does nothing.
 */
export async function delivery(input: DeliveryInput): Promise<void> {
  const run = new DeliveryRun(input);
  wf.setHandler(wakeSignal, () => run.wake());
  wf.setHandler(redeliverSignal, () => run.redeliver());
  // What is owed to the order service is told, whatever is pressed in the Web UI.
  await wf.CancellationScope.nonCancellable(() => run.run());
}

class DeliveryRun {
  readonly #input: DeliveryInput;
  /** Null: its event is not kept any more. */
  #row: DeliverySnapshot | null = null;
  #isWoken = false;
  /** How many messages have come in so far. */
  #told = 0;
  /** Calls that a person wants of a delivery that is settled. */
  #redeliveries = 0;

  constructor(input: DeliveryInput) {
    this.#input = input;
  }

  wake(): void {
    this.#told += 1;
    this.#isWoken = true;
  }

  redeliver(): void {
    this.wake();
    this.#redeliveries += 1;
  }

  async run(): Promise<void> {
    await whileRowMissing(
      () => this.#load(),
      // A row that went meanwhile is over, as one that was never there.
      (row) =>
        this.#process(row).catch((error: unknown) => {
          if (!isRowLost(error)) throw error;
        }),
      {
        onMissing: (_, nextLookAt) => wf.setCurrentDetails(describeUnreadable(nextLookAt)),
        messages: () => this.#told,
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
            summary: 'told again, asked for by a person',
          })
          .redeliverEvent(row.id);
      } else if (row.toldByPayment) {
        return;
      } else if (wf.workflowInfo().continueAsNewSuggested) {
        await wf.continueAsNew<typeof delivery>(this.#input);
      } else {
        // Whoever asked for it to be told has made it due in the ledger.
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
            summary: `tell the order service of ${row.type}, until it has an answer`,
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
