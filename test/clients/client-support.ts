import { afterEach, beforeEach } from 'vitest';
import type { PaymentForPayer } from '../../clients/js/index.js';
import { setUp } from '../api/support.ts';
import { startWay, type Way } from './proxy.ts';

/** Support for the tests of the payer's client. The client reaches the real API through a test proxy. */

export const { database, api, key } = await setUp();
export let way: Way;

beforeEach(async () => {
  way = await startWay(api.url);
});
afterEach(async () => {
  await way.close();
});

/**
 * The statuses that a client got, without the state between the recording of money and its settlement. A client may
 * miss that state.
 */
export const statusesOf = (updates: readonly PaymentForPayer[]) =>
  updates
    .filter(({ status, orderState }) => status !== 'paying' || orderState !== 'undecided')
    .map(({ status }) => status);

export const streams = () => way.requests.filter(({ line }) => line.endsWith('/events'));
export const polls = () => way.requests.filter(({ line }) => /^GET .*\/pay_\w+(\?wait=\d+)?$/.test(line));
