import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { ChannelError } from '../../src/domain/channel.ts';
import type { Act, Notification, Trade } from '../../src/simulator/store.ts';
import {
  ACT_AFTER_MS,
  IN_PROCESS_MS,
  LATE_CALLBACK_MS,
  REFUND_MS,
  TRIGGER_NAMES,
  TRIGGERS,
} from '../../src/simulator/triggers.ts';
import { eventually, unlessOutOfTime } from '../support/progress.ts';
import { ACCOUNT, newTrade, receiver, refundNamed, start, tempFolder, tradeNamed } from './support.ts';

/**
 * Tests the automatic actions of the wallet that the subject of a trade triggers. test/system/sandbox.test.ts tests how
 * nodrop reacts.
 */

type Started = Awaited<ReturnType<typeof start>>;

const rowOf = async ({ ledger }: Started, no: string) =>
  (await ledger()).find(({ outTradeNo }) => outTradeNo === no);

async function create(simulator: Started, triggers: string, changes: Parameters<typeof newTrade>[0] = {}) {
  const trade = newTrade({ subject: `Coffee [sim:${triggers}]`, ...changes });
  await simulator.adapter.createTrade(ACCOUNT, trade);
  return trade;
}

/** @returns the trade once the wallet has received the money. */
async function createPaid(
  simulator: Started,
  triggers: string,
  changes: Parameters<typeof newTrade>[0] = {},
) {
  const trade = await create(simulator, triggers, changes);
  await simulator.pay(trade.outTradeNo);
  return trade;
}

describe('subjects', () => {
  test.each(['Coffee', 'sim:paid', '[sim] paid', '(sim:paid)', 'Order [simple:paid]'])(
    'the subject %s has no trigger',
    async (subject) => {
      const simulator = await start();
      const trade = newTrade({ subject });
      await simulator.adapter.createTrade(ACCOUNT, trade);
      expect(await rowOf(simulator, trade.outTradeNo)).toMatchObject({ triggers: [] });
    },
  );

  test.each([
    ['[sim:paid]', ['paid']],
    ['[sim: paid, callback-lost ] Coffee', ['paid', 'callback-lost']],
    ['Coffee [SIM:Declined]', ['declined']],
    [
      'x [sim:paid wrong-amount callback-doubled refund-refused]',
      ['paid', 'wrong-amount', 'callback-doubled', 'refund-refused'],
    ],
  ])('the triggers in the subject %s apply to the trade', async (subject, triggers) => {
    const simulator = await start();
    const trade = newTrade({ subject });
    await simulator.adapter.createTrade(ACCOUNT, trade);
    expect(await rowOf(simulator, trade.outTradeNo)).toMatchObject({ triggers });
  });

  test.each([
    ['[sim:]', 'triggers are given once, as in [sim:paid callback-lost]'],
    ['[sim:paid', 'triggers are given once'],
    ['[sim:paid] [sim:callback-lost]', 'triggers are given once'],
    ['[sim:declind]', `there is no trigger declind, the triggers are ${TRIGGER_NAMES.join(', ')}`],
    ['[sim:toString]', 'there is no trigger toString'],
    ['[sim:paid declined]', 'paid and declined cannot be combined, give one of them'],
    ['[sim:callback-lost callback-late]', 'callback-lost and callback-late cannot be combined'],
  ])('the subject %s is rejected with a message that explains the fault', async (subject, message) => {
    const simulator = await start();
    const refused = simulator.adapter.createTrade(ACCOUNT, newTrade({ subject }));
    await expect(refused).rejects.toMatchObject({
      kind: 'rejected',
      message: expect.stringContaining(`subject: ${message}`),
    });
    expect(await simulator.ledger()).toEqual([]);
  });

  test('the trigger wrong-amount needs an amount of at least two minor units', async () => {
    const { adapter } = await start();
    const trade = newTrade({ subject: '[sim:paid wrong-amount]', amount: 1 });
    await expect(adapter.createTrade(ACCOUNT, trade)).rejects.toThrow(
      'subject: wrong-amount needs an amount of 2 or more.',
    );
  });
});

/** The wallet's automatic actions for this trade, as recorded in the journal. */
function actsOf(folder: string, no: string): readonly Act[] {
  return entriesOf(folder).findLast(({ trade }) => trade?.outTradeNo === no)?.trade?.acts ?? [];
}

interface Entry {
  readonly trade?: Trade;
  readonly notification?: Notification;
}
const entriesOf = (folder: string): Entry[] =>
  readFileSync(join(folder, 'journal.jsonl'), 'utf8')
    .split('\n')
    // The simulator may still be writing the text after the last line feed.
    .slice(0, -1)
    .map((line) => JSON.parse(line));

const msBetween = (from: Act | undefined, to: Act | undefined) =>
  Date.parse(to?.at ?? '') - Date.parse(from?.at ?? '');

describe('the payer', () => {
  test.each([
    ['paid', 'SUCCESS'],
    ['declined', 'PAYERROR'],
  ])('with the trigger %s, the payer acts automatically', async (triggers, state) => {
    const simulator = await start();
    const { outTradeNo } = await create(simulator, triggers);
    await eventually(async () => (await rowOf(simulator, outTradeNo))?.state === state);
  });

  test('the wallet does not act on a trade that a payer has already decided or that the shop has already closed', async () => {
    const simulator = await start();
    const first = async (act: (no: string) => Promise<boolean>) => {
      const { no, done } = await unlessOutOfTime(
        ACT_AFTER_MS,
        async () => {
          const { outTradeNo } = await create(simulator, 'paid');
          return { no: outTradeNo, done: await act(outTradeNo) };
        },
        (outcome) => !outcome.done,
      );
      expect(done).toBe(true);
      return no;
    };
    const declined = await first(async (no) => (await simulator.pay(no, 'declined')).status === 200);
    const closed = await first(
      async (no) => (await simulator.adapter.closeTrade(ACCOUNT, tradeNamed(no))).state === 'closed',
    );
    const { outTradeNo: last } = await create(simulator, 'paid');
    await eventually(async () => (await rowOf(simulator, last))?.state === 'SUCCESS');
    expect((await rowOf(simulator, declined))?.state).toBe('PAYERROR');
    expect((await rowOf(simulator, closed))?.state).toBe('CLOSED');
  });

  test('with the trigger in-process, the payment is in process for the declared time, even if the simulator restarts', async () => {
    const folder = tempFolder();
    const one = await start({ folder });
    const { outTradeNo } = await create(one, 'in-process');
    // The journal's first entry about the trade has both actions. On a slow machine, the first action may already be
    // done.
    const created = entriesOf(folder).find(({ trade }) => trade?.outTradeNo === outTradeNo)?.trade;
    const [processing, success] = created?.acts ?? [];
    expect([processing?.result, success?.result]).toEqual(['processing', 'success']);
    expect(msBetween(processing, success)).toBe(IN_PROCESS_MS);
    await one.close();
    const two = await start({ folder });
    await eventually(async () => (await rowOf(two, outTradeNo))?.state === 'SUCCESS');
    // The simulator writes its journal after it has changed the trade.
    await eventually(() => actsOf(folder, outTradeNo).length === 0);
  });

  test('with the trigger paid-after-close, a close succeeds, and the money arrives after the close', async () => {
    const simulator = await start();
    const { outTradeNo } = await create(simulator, 'paid-after-close');
    expect(await simulator.adapter.closeTrade(ACCOUNT, tradeNamed(outTradeNo))).toEqual({ state: 'closed' });
    await eventually(async () => (await rowOf(simulator, outTradeNo))?.state === 'SUCCESS');
  });

  test('with the trigger wrong-amount, the wallet charges one minor unit less, and refunds cannot exceed the charged amount', async () => {
    const simulator = await start();
    const { outTradeNo } = await createPaid(simulator, 'wrong-amount');
    expect(await simulator.adapter.queryTrade(ACCOUNT, tradeNamed(outTradeNo))).toMatchObject({
      state: 'paid',
      amount: 1049,
    });
    const refund = { channelRefundId: null, attempt: 1, currency: 'CNY', total: 1049 } as const;
    const give = (outRefundNo: string, amount: number) =>
      simulator.adapter.refundTrade(ACCOUNT, tradeNamed(outTradeNo), {
        ...refund,
        outRefundNo,
        amount,
      });
    await expect(give('r1', 1050)).rejects.toMatchObject({ kind: 'rejected' });
    expect(await give('r2', 1049)).toMatchObject({ state: 'succeeded', amount: 1049 });
    expect(await simulator.ledger()).toMatchObject([{ state: 'REFUND', amount: 1049, refunded: 1049 }]);
  });
});

describe('callbacks', () => {
  test('the triggers callback-lost, callback-late and callback-doubled change only the callbacks of their own trade', async () => {
    const folder = tempFolder();
    const shop = await receiver();
    const simulator = await start({ folder });
    const { outTradeNo: lost } = await createPaid(simulator, 'callback-lost', { notifyUrl: shop.url });
    const late = await createPaid(simulator, 'callback-late', { notifyUrl: shop.url });
    const doubled = await createPaid(simulator, 'callback-doubled', { notifyUrl: shop.url });
    const usual = newTrade({ notifyUrl: shop.url });
    await simulator.adapter.createTrade(ACCOUNT, usual);
    await simulator.pay(usual.outTradeNo);

    const delayOf = (no: string) => {
      const entries = entriesOf(folder);
      const queued = entries.find(({ notification }) => notification?.outTradeNo === no)?.notification;
      const paidAt = entries.findLast(({ trade }) => trade?.outTradeNo === no)?.trade?.paidAt;
      return (queued?.nextAt ?? Number.NaN) - Date.parse(paidAt ?? '');
    };
    expect(delayOf(late.outTradeNo)).toBeGreaterThanOrEqual(LATE_CALLBACK_MS);
    const received = await shop.until(4);
    const count = (no: string) => received.filter(({ content }) => content.data.outTradeNo === no).length;
    expect([lost, late.outTradeNo, doubled.outTradeNo, usual.outTradeNo].map(count)).toEqual([0, 1, 2, 1]);
  });
});

describe('refunds', () => {
  const refundOf = (outTradeNo: string) =>
    ({
      ...{ outTradeNo, ...refundNamed(`r-${outTradeNo}`), attempt: 1 },
      ...{ amount: 1050, currency: 'CNY', total: 1050 },
    }) as const;

  const kindOf = (error: unknown) => (error instanceof ChannelError ? error.kind : error);

  test('with the trigger refund-refused, a refund is refused permanently', async () => {
    const simulator = await start();
    const { outTradeNo } = await createPaid(simulator, 'refund-refused');
    await expect(
      simulator.adapter.refundTrade(ACCOUNT, tradeNamed(outTradeNo), refundOf(outTradeNo)),
    ).rejects.toMatchObject({
      kind: 'rejected',
      message: expect.stringContaining('REFUND_NOT_ALLOWED'),
    });
    expect(await simulator.ledger()).toMatchObject([{ refunded: 0 }]);
  });

  test('with the trigger refund-in-process, a refund is in process at first and later refunded', async () => {
    const simulator = await start();
    const { outTradeNo } = await createPaid(simulator, 'refund-in-process');
    expect(
      await simulator.adapter.refundTrade(ACCOUNT, tradeNamed(outTradeNo), refundOf(outTradeNo)),
    ).toEqual({
      state: 'processing',
    });
    await eventually(async () => (await rowOf(simulator, outTradeNo))?.refunded === 1050);
  });

  test('with the trigger refund-silent, a refund request and its first query get no answer, but the refund is made', async () => {
    const simulator = await start();
    const { refund, asked } = await unlessOutOfTime(
      REFUND_MS,
      async () => {
        const { outTradeNo } = await createPaid(simulator, 'refund-silent');
        const refund = refundOf(outTradeNo);
        const requested = await simulator.adapter
          .refundTrade(ACCOUNT, tradeNamed(refund.outTradeNo), refund)
          .catch(kindOf);
        const queried = await simulator.adapter
          .queryRefund(ACCOUNT, tradeNamed(outTradeNo), refundNamed(refund.outRefundNo))
          .catch(kindOf);
        return { refund, asked: [requested, queried] };
      },
      (outcome) => typeof outcome.asked[1] === 'object',
    );
    expect(asked).toEqual(['unreachable', 'unreachable']);
    await eventually(async () => (await rowOf(simulator, refund.outTradeNo))?.refunded === 1050);
    expect(
      await simulator.adapter.queryRefund(
        ACCOUNT,
        tradeNamed(refund.outTradeNo),
        refundNamed(refund.outRefundNo),
      ),
    ).toMatchObject({ state: 'succeeded', amount: 1050 });
  });
});

test('the wallet page lists the triggers of the trade in the language of the page', async () => {
  const simulator = await start();
  const { outTradeNo } = await create(simulator, 'callback-lost refund-silent');
  for (const [language, mark] of [
    ['en', ': '],
    ['zh', '：'],
  ] as const) {
    const html = await (await fetch(`${simulator.url}/pay/${outTradeNo}?lang=${language}`)).text();
    for (const name of ['callback-lost', 'refund-silent'] as const)
      expect(html).toContain(`<b>${name}</b>${mark}${TRIGGERS[name].does[language]}`);
    expect(html).not.toContain('wrong-amount');
  }
  // Each trigger has a description in both languages.
  for (const { does } of Object.values(TRIGGERS))
    expect([/\p{sc=Han}/u.test(does.zh), /\p{sc=Han}/u.test(does.en)]).toEqual([true, false]);
});
