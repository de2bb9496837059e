import { beforeEach, expect } from 'vitest';
import { declarationOf } from '../../src/channels/simulator/adapter.ts';
import { ChannelError } from '../../src/domain/channel.ts';
import { ReferenceChannel } from '../support/reference-channel.ts';
import { createSimulatorAdapter } from '../support/simulator-adapter.ts';
import { runActivities, useLedger } from './support.ts';

/** Support for tests of a channel that identifies trades by its own ids. */

export const AT = Date.UTC(2026, 10, 27);
export const HORIZON_MS = 24 * 3_600_000;
export const LOST = new ChannelError('unreachable', 'no answer in time');
export const REFUSED = new ChannelError('rejected', 'the number is used');
export const PAID = {
  channelPaymentId: 'p',
  amount: 1000,
  currency: 'CNY',
  paidAt: new Date(AT).toISOString(),
};

export const ledger = useLedger();
export const rest = createSimulatorAdapter({
  name: 'simulator',
  baseUrl: 'http://127.0.0.1:9',
  secret: `whsec_${Buffer.alloc(32).toString('base64')}`,
});

/** The activities read this clock. The test sets it. */
export const clock = { now: AT };
export let channel: ReferenceChannel;
export let act: ReturnType<typeof runActivities>;
beforeEach(() => {
  clock.now = AT;
  channel = new ReferenceChannel(declarationOf('simulator'), {
    repeatableForMs: { create: HORIZON_MS, refund: HORIZON_MS },
  });
  const channels = new Map([['simulator', channel.adapter(rest)]]);
  act = runActivities({ db: ledger.db, channels, clock: () => clock.now });
});

export const row = (id: string) => ledger.db.payment.findUniqueOrThrow({ where: { id } });
export const longLived = () => ledger.newPayment(AT, { expiresInMs: 3 * HORIZON_MS });

/**
 * A payment whose first create has an unknown outcome. The channel has either accepted the create or never
 * received it.
 */
export async function unknownCreate(isAccepted: boolean) {
  const payment = await longLived();
  if (isAccepted) channel.answerIsLost = LOST;
  else channel.failure = LOST;
  expect(await act.create(payment.id)).toHaveProperty('error');
  channel.answerIsLost = undefined;
  channel.failure = undefined;
  channel.calls.length = 0;
  expect(await row(payment.id)).toMatchObject({
    status: 'created',
    reference: null,
    createAskedAt: new Date(AT),
  });
  return payment;
}
