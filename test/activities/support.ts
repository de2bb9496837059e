import { MockActivityEnvironment } from '@temporalio/testing';
import { beforeAll } from 'vitest';
import type { ActivityDeps } from '../../src/activities/activity-deps.ts';
import { channelActivities } from '../../src/activities/channel.ts';
import { refundChannelActivities } from '../../src/activities/refund.ts';
import { ensureMerchant } from '../../src/ledger/merchants.ts';
import { insertPayment, type NewPayment } from '../../src/ledger/new-payment.ts';
import type { Payment } from '../../src/ledger/rows.ts';
import { useDatabase } from '../support/stack.ts';

/** The channel activities with a real database and without Temporal. The test sets their clock. */

export const SECRET = 'a secret of at least 32 characters';

export function useLedger() {
  const ledger = { db: useDatabase().db, merchantId: '' };
  let orders = 0;
  beforeAll(async () => {
    ledger.merchantId = (await ensureMerchant(ledger.db, 'shop', ['simulator', 'simulator2'])).merchant.id;
  });

  return Object.assign(ledger, {
    async newPayment(
      at: number,
      given: Partial<NewPayment> & { readonly subject?: string } = {},
    ): Promise<Payment> {
      orders += 1;
      const { subject = 'x', ...payment } = given;
      const order = { amount: 1000, currency: 'CNY', subject, metadata: {}, expiresInSeconds: undefined };
      const made = await insertPayment(
        ledger.db,
        ledger.merchantId,
        { ...order, id: `order-${orders}` },
        {
          channel: 'simulator',
          method: 'wallet',
          payer: undefined,
          returnUrl: undefined,
          metadata: {},
          expiresInMs: 600_000,
          askedAttempts: new Set<string>(),
          ...payment,
        },
        () => `hash-${orders}`,
        new Date(at),
      );
      return made.payment;
    },
  });
}

/** Creates the activities. Each call of an activity makes one attempt, and rejects if the attempt fails. */
export function runActivities(
  deps: Pick<ActivityDeps, 'db' | 'channels'> & { readonly clock: () => number },
) {
  const all: ActivityDeps = {
    ...deps,
    publicUrl: 'http://127.0.0.1:9',
    secret: SECRET,
    deliveryWorkflows: { start: async () => {}, redeliverWaiting: async () => {} },
    workflows: { wake: async () => {} },
    now: async () => new Date(deps.clock()),
  };
  const activities = channelActivities(all);
  const refunds = refundChannelActivities(all);
  const attempt = async <Args extends unknown[], R>(activity: (...args: Args) => Promise<R>, ...args: Args) =>
    await new MockActivityEnvironment().run(activity, ...args).catch((error: Error) => ({ error }));
  return {
    create: (id: string) => attempt(activities.createAtChannel, id),
    ask: (id: string) => attempt(activities.askChannel, id),
    askBeforeEnd: (id: string) => attempt(activities.askBeforeEnd, id),
    close: (id: string, to: 'closed' | 'cancelled' = 'closed') => attempt(activities.closeAtChannel, id, to),
    refund: (id: string) => attempt(refunds.refundAtChannel, id),
    queryRefund: (refundId: string) => attempt(refunds.queryRefund, { refundId, waits: [1000] }),
    lookAgainAtRefund: (id: string) => attempt(refunds.lookAgainAtRefund, id),
    askTradeOfRefund: (id: string) => attempt(refunds.askTradeOfRefund, id),
  };
}
