import { afterEach, describe, expect, test } from 'vitest';
import { ChannelError } from '../../src/domain/channel.ts';
import { paymentWorkflowId } from '../../src/domain/names.ts';
import type { Payment } from '../../src/ledger/rows.ts';
import { CREATE_ATTEMPT_MS } from '../../src/workflows/activity-options.ts';
import { NET_MS, unlessOutOfTime } from '../support/progress.ts';
import { eventually, realEnvironment, timeSkippingEnvironment } from '../support/stack.ts';
import { useHarness } from './harness.ts';

/**
 * Tests a payment that expires while its trade is being created. The schedule-to-close timeout of the create activity
 * ends at the expiry. The real server and the time-skipping server report this timeout differently. With either report,
 * nodrop queries the channel and closes the payment.
 */

const EXPIRES_IN_MS = 6_000;
/**
 * The time from the expiry until the channel creates the trade. At the end of this time, the workflow still waits for
 * the result of its attempt.
 */
const LATE_MS = 8_000;
const IN_TIME_MS = CREATE_ATTEMPT_MS - 2_000;

describe.each([
  ['the time-skipping server', timeSkippingEnvironment],
  ['a real server', () => realEnvironment()],
])('a payment expires while its trade is being created (with %s of Temporal)', (_, environment) => {
  let creates = 0;
  let onCreate: (() => Promise<void>) | undefined;
  let onLate: (() => void) | undefined;
  const h = useHarness({
    environment,
    between: (adapter) => ({
      ...adapter,
      async createTrade(account, trade, signal) {
        creates += 1;
        await onCreate?.();
        if (onLate === undefined) return await adapter.createTrade(account, trade, signal);
        // The request is in flight and cannot be cancelled. At the channel, the trade stays open after the
        // expiry.
        const expiresAt = new Date(Date.now() + 3_600_000).toISOString();
        const created = await adapter.createTrade(account, { ...trade, expiresAt });
        onLate();
        return created;
      },
    }),
  });
  afterEach(() => {
    creates = 0;
    onCreate = undefined;
    onLate = undefined;
  });

  const refuse = async () => {
    throw new ChannelError('unreachable', 'the channel is away');
  };

  /**
   * Runs the scenario until its payment is closed. Repeats the scenario if the time-skipping server ignored the
   * expiry. This happens if a schedule-to-close timeout ends on a whole second, because the server then retries
   * the activity forever (`TestServiceRetryState` of the Temporal Java SDK treats zero nanoseconds as "not
   * set").
   */
  const ended = async (scenario: () => Promise<Payment>): Promise<Payment> => {
    for (;;) {
      creates = 0;
      const payment = await scenario();
      await h.until(payment.id, 'closed');
      if (!h.env.supportsTimeSkipping || !(await historyOf(payment)).endsOnASecond) return payment;
    }
  };

  const begin = async (expiresInMs = EXPIRES_IN_MS): Promise<Payment> => {
    const payment = await h.newPayment({ expiresInMs });
    await h.workflows.start(payment, true, NET_MS);
    return payment;
  };

  /** Returns the number of timed-out create activities, their timeouts in ms, and whether the close has begun. */
  const historyOf = async ({ id }: Payment) => {
    const { events } = await h.env.client.workflow.getHandle(paymentWorkflowId(id)).fetchHistory();
    const givenUp = (events ?? []).filter(
      (event) =>
        event.activityTaskTimedOutEventAttributes != null || event.activityTaskFailedEventAttributes != null,
    );
    const isEnding = (events ?? []).some(
      (event) => event.activityTaskScheduledEventAttributes?.activityType?.name === 'askBeforeEnd',
    );
    const timesGiven = (events ?? []).flatMap(({ activityTaskScheduledEventAttributes: scheduled }) => {
      const { seconds, nanos } = scheduled?.scheduleToCloseTimeout ?? {};
      return scheduled?.activityType?.name === 'createAtChannel'
        ? [Number(seconds ?? 0) * 1_000 + (nanos ?? 0) / 1_000_000]
        : [];
    });
    const endsOnASecond = (events ?? []).some(
      ({ eventTime, activityTaskScheduledEventAttributes: scheduled }) =>
        scheduled?.activityType?.name === 'createAtChannel' &&
        ((eventTime?.nanos ?? 0) + (scheduled.scheduleToCloseTimeout?.nanos ?? 0)) % 1_000_000_000 === 0,
    );
    return { givenUp: givenUp.length, isEnding, timesGiven, endsOnASecond };
  };

  /** Asserts that the payment was queried and closed, and that no attention was raised. */
  const expectClosed = async (payment: Payment) => {
    const timeline = await h.timeline(payment.id);
    expect(timeline.slice(-2)).toEqual([
      'query: The channel answered unknown_trade.',
      'transition: created -> closed: unpaid, and unknown to the channel.',
    ]);
    expect(timeline.filter((entry) => entry.startsWith('attention:'))).toEqual([]);
    const { endedAt, expiresAt } = await h.row(payment.id);
    expect(endedAt?.getTime()).toBeGreaterThanOrEqual(expiresAt.getTime());
  };

  test('if the channel stays unreachable and too little time is left for another attempt before the expiry, the payment is closed', async () => {
    onCreate = refuse;
    const payment = await ended(begin);
    await expectClosed(payment);
    // At most one create activity has timed out. After that, the workflow makes no further attempt and waits until the
    // expiry.
    expect((await historyOf(payment)).givenUp).toBeLessThanOrEqual(1);
  });

  test('if the last request to create the trade gets no answer, the workflow waits before the close, because that request may still create the trade', async () => {
    let lastBegan = 0;
    onCreate = async () => {
      lastBegan = await h.now();
      await refuse();
    };
    const payment = await ended(begin);
    await expectClosed(payment);
    expect(lastBegan).toBeGreaterThan(0);
    const { endedAt } = await h.row(payment.id);
    expect(endedAt?.getTime()).toBeGreaterThanOrEqual(lastBegan + CREATE_ATTEMPT_MS);
  });

  test('if the request to create the trade gets no answer before the expiry and creates no trade, the payment is closed', async () => {
    let isOver = () => {};
    const payment = await ended(async () => {
      isOver();
      const held = new Promise<void>((resolve) => {
        isOver = resolve;
      });
      onCreate = async () => {
        await held;
        await refuse();
      };
      return await begin();
    });
    await expectClosed(payment);
    isOver();
    expect((await historyOf(payment)).givenUp).toBeLessThanOrEqual(1);
  });

  test('if a message arrives during a request to create the trade, the next request gets a shorter timeout', async () => {
    onCreate = refuse;
    const payment = await ended(async () => {
      const begun = await begin();
      await eventually(async () => creates > 1 || (await h.row(begun.id)).status === 'closed');
      await h.workflows.wake(begun, NET_MS);
      return begun;
    });
    await expectClosed(payment);
    const { timesGiven } = await historyOf(payment);
    expect(timesGiven).toEqual(timesGiven.toSorted((a, b) => b - a));
    expect(new Set(timesGiven).size).toBe(timesGiven.length);
  });

  test('if no worker serves the task queue of the channel before the expiry, the payment is closed', async () => {
    await h.stopChannelWorkers();
    const payment = await begin();
    await eventually(async () => (await historyOf(payment)).isEnding);
    await h.startChannelWorkers();
    await h.until(payment.id, 'closed');
    await expectClosed(payment);
    expect(creates).toBe(0);
  });

  test.each([
    ['', false],
    [' with a message meanwhile', true],
  ])(
    'if a create request is in flight at the expiry%s and creates the trade later, the trade is closed',
    async (_, isTold) => {
      const { payment, trade } = await unlessOutOfTime(
        CREATE_ATTEMPT_MS,
        async () => {
          let isOver = () => {};
          const held = new Promise<void>((resolve) => {
            isOver = resolve;
          });
          let landed: Promise<number> | undefined;
          onLate = () => {
            landed ??= h.now();
          };
          onCreate = () => held;
          const payment = await begin();
          await eventually(() => creates > 0);
          if (isTold) await h.workflows.wake(payment, NET_MS);
          // The server has ended the activity. If the trade were queried now, the channel would not know it.
          await eventually(async () => {
            if ((await historyOf(payment)).givenUp === 0) return false;
            const since = (await h.now()) - payment.expiresAt.getTime();
            return since > LATE_MS || (await h.row(payment.id)).status === 'closed';
          });
          isOver();
          await h.until(payment.id, 'closed');
          await eventually(() => landed !== undefined);
          const trade = (await h.simulator.ledger()).find(({ outTradeNo }) => outTradeNo === payment.id);
          const lateBy = ((await landed) ?? 0) - payment.expiresAt.getTime();
          creates = 0;
          return { payment, trade, lateBy };
        },
        // The trade is created this late only if the machine was so slow that every attempt had ended before.
        ({ lateBy }) => lateBy > IN_TIME_MS,
      );
      expect(trade?.state).toBe('CLOSED');
      // The trade is closed, so the payer can no longer pay it.
      expect((await h.simulator.pay(payment.id)).status).toBe(409);
      expect(await h.row(payment.id)).toMatchObject({ status: 'closed', receivedAmount: null });
    },
  );
});
