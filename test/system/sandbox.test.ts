import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { isEnded } from '../../src/domain/states.ts';
import { NO_FAULTS } from '../../src/simulator/faults.ts';
import type { Notification, Refund, Trade } from '../../src/simulator/store.ts';
import {
  LATE_CALLBACK_MS,
  REFUND_MS,
  TRIGGER_NAMES,
  TRIGGERS,
  type Trigger,
  type TriggerDeclaration,
} from '../../src/simulator/triggers.ts';
import { readCurl } from '../support/curl.ts';
import { API_BUDGET_MS, unlessOutOfTime } from '../support/progress.ts';
import { eventually } from '../support/stack.ts';
import { type System, startSystem } from '../support/system.ts';

/**
 * Tests that the whole service does what docs/sandbox.md says: each row of its table, the short expiry, and its
 * commands.
 */

let system: System;
beforeAll(async () => {
  system = await startSystem({ withWorker: true });
});
afterAll(async () => {
  await system?.stop();
});

const get = async (path: string) => (await system.api('GET', path)).body;
const tradeOf = async (id: string) =>
  (await system.simulator.ledger()).find(({ outTradeNo }) => outTradeNo === id);

let orders = 0;
/**
 * Creates a payment whose trade exists in the wallet. If a short expiry passes before that on a slow machine, creates
 * another payment.
 * @param expiresInSeconds the lifetime of the payment and of its order
 */
async function begin(subject: string, expiresInSeconds?: number) {
  for (;;) {
    const expiry = expiresInSeconds === undefined ? {} : { expiresInSeconds };
    const order = { id: `row-${++orders}`, amount: 1990, currency: 'CNY', subject, ...expiry };
    const { id } = await eventually(async () => {
      const answer = await system.api('POST', '/v1/payments', { order, channel: 'simulator', ...expiry });
      if (answer.status < 300) return answer.body;
      // An earlier request of this loop got no answer in time, but created the payment. Since then, the wallet has
      // acted on the payment, so the answer is 409.
      if (answer.status === 409) return (await get(`/v1/orders/${order.id}`)).payments[0];
      expect(answer.status).toBeGreaterThanOrEqual(500);
    });
    const isCreated = await eventually(async () => {
      if ((await tradeOf(id)) !== undefined) return { yes: true };
      return isEnded((await get(`/v1/payments/${id}`)).status) && { yes: false };
    });
    if (isCreated.yes) return { id, orderId: order.id };
  }
}

async function outcomeOf({ id, orderId }: { id: string; orderId: string }) {
  const { status, orderUpdate, attention } = await get(`/v1/payments/${id}`);
  const { data: refunds } = await get(`/v1/payments/${id}/refunds`);
  return {
    payment: status,
    orderUpdate,
    attention,
    order: (await get(`/v1/orders/${orderId}`)).status,
    refund: refunds[0]?.status ?? null,
  };
}

/** Reads the wallet's journal entries about a trade, in their order. */
function journalOf(id: string) {
  const path = join(system.config.home, 'simulator', 'journal.jsonl');
  const entries = readFileSync(path, 'utf8')
    .split('\n')
    // The simulator may still be writing the text after the last line feed, so this text is left out.
    .slice(0, -1)
    .map((line) => JSON.parse(line) as { trade?: Trade; refund?: Refund; notification?: Notification });
  return {
    trades: entries.flatMap(({ trade }) => (trade?.outTradeNo === id ? [trade] : [])),
    refunds: entries.flatMap(({ refund }) => (refund?.outTradeNo === id ? [refund] : [])),
    notifications: entries.flatMap(({ notification }) =>
      notification?.outTradeNo === id ? [notification] : [],
    ),
  };
}

const paidAtOf = (id: string) =>
  Date.parse(journalOf(id).trades.find(({ paidAt }) => paidAt !== null)?.paidAt ?? '');

/**
 * Checks for triggers that do not change the final state of a payment. Each check shows the effect of its trigger, and
 * does not depend on the speed of the machine.
 */
const SIGNS: Partial<Record<Trigger, (id: string) => Promise<void> | void>> = {
  'in-process'(id) {
    const states = journalOf(id).trades.map(({ state }) => state);
    expect(states).toContain('PROCESSING');
    expect(states.indexOf('PROCESSING')).toBeLessThan(states.indexOf('SUCCESS'));
  },
  'callback-lost'(id) {
    expect(journalOf(id).notifications).toEqual([]);
  },
  async 'callback-late'(id) {
    const [first] = journalOf(id).notifications;
    expect((first?.nextAt ?? 0) - paidAtOf(id)).toBeGreaterThanOrEqual(LATE_CALLBACK_MS);
    const [stored] = await eventually(async () => {
      const callbacks = await system.db.callback.findMany({ where: { paymentId: id } });
      return callbacks.length > 0 && callbacks;
    });
    expect(Number(stored?.receivedAt) - paidAtOf(id)).toBeGreaterThanOrEqual(LATE_CALLBACK_MS);
  },
  async 'callback-doubled'(id) {
    expect(journalOf(id).notifications.map(({ copies }) => copies)).toContain(2);
    // The two callbacks have the same id, so nodrop records only one of them.
    await eventually(async () => (await system.db.callback.count({ where: { paymentId: id } })) === 1);
  },
  async 'refund-in-process'(id) {
    await wasInProcess(id);
  },
  async 'refund-silent'(id) {
    await wasInProcess(id);
    expect(journalOf(id).refunds[0]).toMatchObject({ state: 'PROCESSING', silent: true });
    // The wallet never reported the trade as processing.
    const { data: timeline } = await get(`/v1/payments/${id}/timeline`);
    const said = timeline.map(({ data }: { data: { status?: string } }) => data.status);
    expect(said).toContain('succeeded');
    expect(said).not.toContain('processing');
  },
};

/** Asserts that the refund was settled only after this delay. */
async function wasInProcess(id: string) {
  const { createdAt } = (await get(`/v1/payments/${id}/refunds`)).data[0];
  const [first] = journalOf(id).refunds;
  expect(Date.parse(first?.settlesAt ?? '') - Date.parse(createdAt)).toBeGreaterThanOrEqual(REFUND_MS);
}

test.concurrent.each(TRIGGER_NAMES)(
  'a payment with the trigger %s has the declared outcome',
  async (name) => {
    const { example }: TriggerDeclaration = TRIGGERS[name];
    const { callbacks, ...outcome } = example.outcome;
    const made = await begin(`Coffee [sim:${example.subject}]`, example.expiresInSeconds);
    if (example.asksForRefund) {
      await eventually(async () => (await get(`/v1/payments/${made.id}`)).orderUpdate === 'applied');
      await eventually(async () => {
        const headers = { 'idempotency-key': made.id };
        return (await system.api('POST', `/v1/payments/${made.id}/refunds`, {}, headers)).status < 300;
      });
    }
    await eventually(async () => {
      expect(await outcomeOf(made)).toEqual(outcome);
      return true;
    });
    await eventually(async () => ((await tradeOf(made.id))?.callbackAttempts ?? 0) >= callbacks);
    if (callbacks === 0) expect((await tradeOf(made.id))?.callbackAttempts).toBe(0);
    await SIGNS[name]?.(made.id);
  },
);

describe('a payment with an expiry of 5 s', () => {
  test.concurrent('ends, and its order can be paid again', async () => {
    const made = await eventually(async () => {
      const { status, body } = await system.pay({ expiresInSeconds: 5 });
      return status < 300 && body;
    });
    expect(Date.parse(made.expiresAt) - Date.parse(made.createdAt)).toBe(5_000);
    await eventually(async () => (await get(`/v1/payments/${made.id}`)).status === 'closed');
    expect((await system.simulator.pay(made.id)).status).not.toBe(200);
    const again = await eventually(async () => {
      const request = { orderId: made.orderId, channel: 'simulator' };
      const { status, body } = await system.api('POST', '/v1/payments', request);
      return status < 300 && body;
    });
    expect(again.id).not.toBe(made.id);
  });
});

test.concurrent('an unknown trigger is refused with the names of the known triggers', async () => {
  const order = { id: 'mistyped', amount: 1990, currency: 'CNY', subject: 'Coffee [sim:declind]' };
  const refused = await eventually(async () => {
    const answer = await system.api('POST', '/v1/payments', { order, channel: 'simulator' });
    return answer.status < 500 && answer.status !== 202 && answer;
  });
  expect(refused.body.code).toBe('channel_rejected');
  expect(refused.body.detail).toContain('there is no trigger declind');
  for (const name of TRIGGER_NAMES) expect(refused.body.detail).toContain(name);
});

describe('docs/sandbox.md', () => {
  const page = readFileSync(new URL('../../docs/sandbox.md', import.meta.url), 'utf8');

  test('documents every fault', () => {
    for (const [group, faults] of Object.entries(NO_FAULTS)) {
      const names =
        typeof faults === 'object' ? Object.keys(faults).map((name) => `${group}.${name}`) : [group];
      for (const name of names) expect(page).toContain(`\`${name}\``);
    }
  });

  // This test is the last one, because the faults that it sets affect every other payment.
  test('has commands that do what the page says about them', async () => {
    const { id } = (await system.payable()).body;
    const run = async (command: string) => {
      const { url, init } = readCurl(command);
      const answer = await fetch(url, init);
      return { status: answer.status, text: await answer.text() };
    };
    const commands = [...page.matchAll(/```sh\n([\s\S]*?)```/g)]
      .flatMap(([, block = '']) => block.split(/^(?=curl )/m))
      .map((command) =>
        command
          .replace('http://127.0.0.1:3000', system.apiUrl)
          .replace('http://127.0.0.1:4000', system.simulator.url)
          .replace('PAYMENT_ID', id),
      );
    /** How many times each order of the page was created. The test uses only the latest creation. */
    const asked: Record<string, number> = {};
    const latest = (name: string) => `${name}-${asked[name]}`;
    for (const [index, command] of commands.entries()) {
      const { status, text } = await unlessOutOfTime(
        API_BUDGET_MS,
        // If the answer about a payment was late, the payment may have ended or its trigger may have paid it.
        // So another order is used.
        () => {
          const [, made] = /"id":"(sandbox-\d)"/.exec(command) ?? [];
          if (made !== undefined) asked[made] = (asked[made] ?? 0) + 1;
          return run(command.replace(/sandbox-\d/g, latest));
        },
        (answer) => answer.status >= 500,
      );
      expect([200, 201, 202], `${command}\n${text}`).toContain(status);
      if (command.includes('dropRate":0.5')) {
        const { callback, refund } = JSON.parse(text);
        expect([callback.dropRate, refund.processingMs]).toEqual([0.5, 60_000]);
      }
      if (index === commands.length - 1) expect(JSON.parse(text)).toEqual(NO_FAULTS);
    }
    const found = async (orderId: string) => (await get(`/v1/orders/${orderId}`)).payments[0];
    await eventually(async () => (await found(latest('sandbox-1'))).settledBy === 'query');
    await eventually(async () => (await get(`/v1/payments/${id}`)).orderUpdate === 'applied');
  });
});
