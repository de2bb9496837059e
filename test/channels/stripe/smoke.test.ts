import { afterAll, beforeAll, expect, test } from 'vitest';
import { smokeTest } from '../../../src/cli/channels-smoke.ts';
import { type StripeDouble, startStripeDouble } from '../../doubles/stripe/start.ts';
import { ACCOUNT, accountOf, adapterAt, CREDENTIALS } from './support.ts';

/** Tests the command `channels smoke stripe` against the double. */

let double: StripeDouble;
beforeAll(async () => {
  double = await startStripeDouble();
});
afterAll(() => double.stop());

test('the smoke test creates, queries and closes a trade with each method, and prints each step', async () => {
  const lines: string[] = [];
  await smokeTest(adapterAt(double.url), ACCOUNT, (line) => lines.push(line));
  const text = lines
    .join('\n')
    .replace(/(pay_|cs_test_|pi_test_)\w+/g, '$1')
    .replaceAll(double.url, 'stripe:');
  expect(text).toBe(`stripe accepts the credentials.
By checkout:
  create pay_, EUR 10.00: cs_test_, stripe:/pay/cs_test_
  query: unpaid
  not paid: the channel offers no way for a program to pay.
  close: closed
  query: closed
By payment_intent:
  create pay_, EUR 10.00: pi_test_, an sdk action
  query: unpaid
  paid with a test card.
  query: paid
  refund of EUR 5.00: succeeded
  the same refund again: succeeded
  query of the refund: succeeded
  query: paid
  close: already_paid
  create pay_, EUR 10.00: pi_test_, an sdk action
  close: closed
  query: closed`);
  for (const secret of Object.values(CREDENTIALS)) expect(text).not.toContain(secret);
});

test('the smoke test refuses a live key before it sends a request', async () => {
  await double.tell('requests', {});
  const live = accountOf(CREDENTIALS, { ...CREDENTIALS, secret_key: 'rk_live_1' });
  await expect(smokeTest(adapterAt(double.url), live, () => {})).rejects.toThrow(/are live/);
  expect(await double.tell('requests', {})).toEqual([]);
});
