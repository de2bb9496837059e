import { expect, test } from 'vitest';
import { MerchantBusy, unknownOutcome } from '../../src/activities/failures.ts';
import {
  CHANNEL_CALLS_AT_ONCE,
  CHANNEL_SLOTS,
  limitedChannel,
} from '../../src/activities/limited-channel.ts';
import { ChannelError } from '../../src/domain/channel.ts';
import { tradeNamed } from '../simulator/support.ts';
import { createSimulatorAdapter } from '../support/simulator-adapter.ts';

// Tests how merchants share the slots of a channel. Each call to the channel hangs until the test releases it.

const SECRET = `whsec_${Buffer.alloc(32).toString('base64')}`;
const account = (merchantId: string) => ({
  id: `acct_${merchantId}`,
  merchantId,
  channel: 'simulator',
  credentials: [],
});

test("if the channel does not answer the calls of one merchant, they occupy only some of the slots, and another merchant's calls still get a slot", async () => {
  let hanging = 0;
  const hang: (() => void)[] = [];
  const simulator = createSimulatorAdapter({
    name: 'simulator',
    baseUrl: 'http://127.0.0.1:9',
    secret: SECRET,
  });
  const channel = limitedChannel({
    ...simulator,
    async queryTrade({ merchantId }) {
      if (merchantId === 'hangs') {
        hanging += 1;
        await new Promise<void>((resolve) => hang.push(resolve));
      }
      return { state: 'unpaid' };
    },
  });
  const query = (merchantId: string, i: number) =>
    channel.queryTrade(account(merchantId), tradeNamed(`pay_${i}`));
  const calls = Array.from({ length: 2 * CHANNEL_SLOTS }, (_, i) =>
    query('hangs', i).catch((error: unknown) => error),
  );
  expect(await query('healthy', 0)).toEqual({ state: 'unpaid' });
  expect(hanging).toBe(CHANNEL_CALLS_AT_ONCE);
  for (const end of hang) end();
  const turnedAway = (await Promise.all(calls)).filter((outcome) => outcome instanceof Error);
  expect(turnedAway).toHaveLength(2 * CHANNEL_SLOTS - CHANNEL_CALLS_AT_ONCE);
  // These calls did not reach the channel, so nodrop must not record that the channel failed to answer.
  for (const error of turnedAway) expect(error).not.toBeInstanceOf(ChannelError);
  expect(hanging).toBe(CHANNEL_CALLS_AT_ONCE);
  const again = query('hangs', 0);
  hang.at(-1)?.();
  expect(await again).toEqual({ state: 'unpaid' });
});

test('a call that is refused because its merchant has too many calls fails with a benign failure and is retried after a wait', () => {
  const failure = unknownOutcome('simulator', new MerchantBusy(3_000), 5_000);
  expect(failure).toMatchObject({ category: 'BENIGN', nextRetryDelay: 5_000, nonRetryable: false });
  expect(unknownOutcome('simulator', new MerchantBusy(9_000))).toMatchObject({ nextRetryDelay: 9_000 });
});
