import { expect, test } from 'vitest';
import * as deadlines from '../../src/api/deadlines.ts';

// Relations between the API's deadlines that must hold when one of them is changed.

test('a signal times out before its answer, the answer before a stop gives the request up, and that before the process ends', () => {
  const { SIGNAL_WITHIN_MS, ANSWER_WITHIN_MS, REQUEST_GIVEN_UP_MS, STOP_WITHIN_MS } = deadlines;
  const inOrder = [SIGNAL_WITHIN_MS, ANSWER_WITHIN_MS, REQUEST_GIVEN_UP_MS, STOP_WITHIN_MS];
  expect(inOrder).toEqual([...new Set(inOrder)].sort((one, other) => one - other));
});

test("the parts of a request's time fit into its deadline", () => {
  const { ANSWER_WITHIN_MS, NEXT_ACTION_AT_LEAST_MS, SIGNAL_OTHERS_WITHIN_MS } = deadlines;
  const { TRADE_ASKED_WITHIN_MS, SIGNAL_WITHIN_MS } = deadlines;
  expect(NEXT_ACTION_AT_LEAST_MS).toBeLessThan(ANSWER_WITHIN_MS);
  expect(SIGNAL_OTHERS_WITHIN_MS).toBeLessThan(ANSWER_WITHIN_MS);
  // A refund of all that is left queries the trade, writes the refund, and starts its workflow.
  expect(TRADE_ASKED_WITHIN_MS + SIGNAL_WITHIN_MS).toBeLessThan(ANSWER_WITHIN_MS);
});

test('a query that times out leaves time to find out whether Temporal or the channel is the cause', () => {
  const { CHANNEL_ANSWERS_WITHIN_MS, TEMPORAL_LOOK_MS, REQUEST_GIVEN_UP_MS } = deadlines;
  expect(CHANNEL_ANSWERS_WITHIN_MS + TEMPORAL_LOOK_MS).toBeLessThanOrEqual(REQUEST_GIVEN_UP_MS);
});
