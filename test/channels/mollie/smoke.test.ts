import { afterAll, beforeAll, expect, test } from 'vitest';
import { smokeTest } from '../../../src/cli/channels-smoke.ts';
import { type MollieDouble, startMollieDouble } from '../../doubles/mollie/start.ts';
import { ACCOUNT, accountOf, adapterAt, CREDENTIALS } from './support.ts';

/** Tests the command `channels smoke mollie` against the double. */

let double: MollieDouble;
beforeAll(async () => {
  double = await startMollieDouble();
});
afterAll(async () => await double?.stop());

test('the smoke test creates, queries and closes a trade with each method, and prints each step', async () => {
  const lines: string[] = [];
  await smokeTest(adapterAt(double.url), ACCOUNT, (line) => lines.push(line));
  const text = lines
    .join('\n')
    .replace(/(pay_|tr_)\w+/g, '$1')
    .replace(/\d{4}-\d\d-\d\dT[\d:.]+Z/g, 'TIME')
    .replaceAll(double.url, 'mollie:');
  const way = (method: string) => `By ${method}:
  create pay_, EUR 10.00: tr_, mollie:/checkout/tr_
  query: unpaid
  not paid: the channel offers no way for a program to pay.
  close: not before TIME`;
  const methods = ['checkout', 'ideal', 'creditcard', 'bancontact', 'paypal'];
  expect(text).toBe(['mollie accepts the credentials.', ...methods.map(way)].join('\n'));
  expect(text).not.toContain(CREDENTIALS.api_key);
});

test('the smoke test refuses a live key before it sends a request', async () => {
  await double.tell('requests', {});
  const live = accountOf(CREDENTIALS, { api_key: 'live_doubleOursOursOursOurs' });
  await expect(smokeTest(adapterAt(double.url), live, () => {})).rejects.toThrow(/are live/);
  expect(await double.tell('requests', {})).toEqual([]);
});
