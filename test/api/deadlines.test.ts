import { expect, test } from 'vitest';
import * as deadlines from '../../src/api/deadlines.ts';

// Tests that the API's deadlines fit together. This must still hold after one of them is changed.

test('these timeouts increase: signalling, answering a request, aborting a request when the process stops, stopping the process', () => {
  const { SIGNAL_WITHIN_MS, ANSWER_WITHIN_MS, REQUEST_GIVEN_UP_MS, STOP_WITHIN_MS } = deadlines;
  const inOrder = [SIGNAL_WITHIN_MS, ANSWER_WITHIN_MS, REQUEST_GIVEN_UP_MS, STOP_WITHIN_MS];
  expect(inOrder).toEqual([...new Set(inOrder)].sort((one, other) => one - other));
});

test('the steps of a request time out before the request must be answered', () => {
  const { ANSWER_WITHIN_MS, NEXT_ACTION_AT_LEAST_MS, SIGNAL_OTHERS_WITHIN_MS } = deadlines;
  const { TRADE_ASKED_WITHIN_MS, SIGNAL_WITHIN_MS } = deadlines;
  expect(NEXT_ACTION_AT_LEAST_MS).toBeLessThan(ANSWER_WITHIN_MS);
  expect(SIGNAL_OTHERS_WITHIN_MS).toBeLessThan(ANSWER_WITHIN_MS);
  // A request that refunds the whole remaining amount queries the trade, writes the refund, and starts its workflow.
  expect(TRADE_ASKED_WITHIN_MS + SIGNAL_WITHIN_MS).toBeLessThan(ANSWER_WITHIN_MS);
});

test('after a query has timed out, enough time is left to find out whether Temporal or the channel caused the timeout', () => {
  const { CHANNEL_ANSWERS_WITHIN_MS, TEMPORAL_LOOK_MS, REQUEST_GIVEN_UP_MS } = deadlines;
  expect(CHANNEL_ANSWERS_WITHIN_MS + TEMPORAL_LOOK_MS).toBeLessThanOrEqual(REQUEST_GIVEN_UP_MS);
});
