import fc from 'fast-check';
import { expect, vi } from 'vitest';
import type { NewTrade } from '../../../src/domain/channel.ts';
import { MAX_AMOUNT } from '../../../src/domain/money.ts';
import {
  type Bench,
  type ContractCase,
  currenciesOf,
  inWholeUnits,
  limitsOf,
  withinLimits,
  withoutZeros,
} from './bench.ts';

/** Tests the life of a trade: its creation, queries, payment and close. */

const clockMoved = 90_000;

export const tradeCases: readonly ContractCase[] = [
  {
    name: 'a trade is unpaid, then paid with its amount, currency, number and time, with every method',
    async run(bench) {
      for (const { name, action } of bench.declaration.methods) {
        const trade = await bench.create({ method: name });
        expect(trade.action.type, 'the declared action').toBe(action);
        if (action === 'redirect') expect(trade.action.url).toMatch(/^https?:\/\//);
        if (action === 'qr') expect(trade.action.qr).toMatch(/./);
        if (action === 'sdk') expect(Object.keys(trade.action.params ?? {})).not.toEqual([]);
        expect(['unpaid', 'unknown_trade']).toContain((await bench.query(trade)).state);
        const before = Date.now();
        await bench.pay(trade);
        const answer = await bench.queryPaid(trade);
        const { amount, currency } = trade;
        expect(answer).toMatchObject({ state: 'paid', amount, currency });
        expect(answer.channelPaymentId).not.toBe('');
        // The times are compared in whole seconds, because many channels count in whole seconds.
        expect(Date.parse(answer.paidAt)).toBeGreaterThan(before - 2_000);
        expect(await bench.queryPaid(trade), 'queried again').toEqual(answer);
      }
    },
  },
  {
    name: 'a declined trade is failed or can still be paid',
    appliesTo: ({ channel }) => channel.decline !== undefined,
    async run(bench) {
      const trade = await bench.create();
      await bench.channel.decline?.(trade);
      const { state } = await bench.query(trade);
      expect(['failed', 'unpaid']).toContain(state);
      expect(await bench.channel.pay(trade), `paid although it was reported as ${state}`).toBe(
        state === 'unpaid',
      );
    },
  },
  {
    name: 'a trade in process is neither failed nor closed',
    appliesTo: ({ channel }) => channel.startProcessing !== undefined,
    async run(bench) {
      const trade = await bench.create();
      await bench.channel.startProcessing?.(trade);
      expect(await bench.query(trade)).toEqual({ state: 'processing' });
      const closing = await bench.adapter.closeTrade(bench.account, trade);
      expect(['processing', 'not_yet']).toContain(closing.state);
      await bench.pay(trade);
      expect((await bench.queryPaid(trade)).state).toBe('paid');
    },
  },
  {
    name: 'readTrade finds a trade by its name, with its amount and state',
    appliesTo: ({ ours }) => ours.adapter.readTrade !== undefined,
    async run(bench) {
      for (const { name } of bench.declaration.methods) {
        const trade = await bench.createOpened({ method: name });
        // If the trade has no reference, the adapter reads it by its number. A merchant's own code could also have
        // chosen that number.
        const reference = trade.reference?.id ?? trade.outTradeNo;
        const { amount, currency } = trade;
        const read = () => bench.adapter.readTrade?.(bench.account, reference);
        const open = await read();
        expect(open).toMatchObject({ reference, answer: await bench.query(trade) });
        expect(open?.terms ?? { amount, currency }).toEqual({ amount, currency });
        expect(open?.method ?? name).toBe(name);
        if (trade.reference !== null) expect(open?.isOurs, 'the trade has our number').toBe(true);
        await bench.pay(trade);
        const paid = await read();
        expect(paid).toMatchObject({ reference, terms: { amount, currency } });
        expect(paid?.answer).toEqual(await bench.queryPaid(trade));
      }
    },
  },
  {
    name: 'a name that no trade has is unknown',
    appliesTo: ({ ours }) => ours.adapter.readTrade !== undefined,
    async run(bench) {
      const { example = '' } = bench.declaration.adoption ?? {};
      const found = await bench.adapter.readTrade?.(bench.account, example);
      expect(found?.answer).toEqual({ state: 'unknown_trade' });
    },
  },
  {
    name: 'a closed trade stays closed if it is closed again, and can no longer be paid',
    async run(bench) {
      const trade = await bench.createOpened();
      await closeOnceAllowed(bench, trade);
      expect((await bench.adapter.closeTrade(bench.account, trade)).state).toBe('closed');
      expect(await bench.query(trade)).toEqual({ state: 'closed' });
      expect(await bench.channel.pay(trade), 'paid after it was closed').toBe(false);
    },
  },
  {
    name: 'a close that comes too early reports when the trade can be closed, and changes nothing',
    appliesTo: ({ channel }) => channel.advance !== undefined,
    async run(bench) {
      const trade = await bench.create();
      const answer = await bench.adapter.closeTrade(bench.account, trade);
      if (answer.state !== 'not_yet') return;
      const wait = Date.parse(answer.until) - Date.now();
      expect(wait).toBeGreaterThan(0);
      expect(await bench.query(trade)).toEqual({ state: 'unpaid' });
      await bench.channel.advance?.(wait + 1_000);
      expect((await bench.adapter.closeTrade(bench.account, trade)).state).toBe('closed');
    },
  },
  {
    name: 'a trade that was closed in the dashboard is closed',
    appliesTo: ({ channel }) => channel.close !== undefined,
    async run(bench) {
      const trade = await bench.createOpened();
      await bench.channel.close?.(trade);
      expect(await bench.query(trade)).toEqual({ state: 'closed' });
      expect((await bench.adapter.closeTrade(bench.account, trade)).state).toBe('closed');
    },
  },
  {
    name: 'closing a paid trade reports that it is paid',
    async run(bench) {
      const trade = await bench.createPaid();
      expect(await bench.adapter.closeTrade(bench.account, trade)).toEqual({ state: 'already_paid' });
      expect((await bench.queryPaid(trade)).state).toBe('paid');
    },
  },
  {
    name: 'an unknown trade is unknown, never closed or failed, and neither query nor close creates it',
    async run(bench) {
      const made = bench.newTrade();
      // For a channel that is queried by its own ids, this trade has an id that the channel never returned.
      const reference = bench.adapter.findTrade === undefined ? null : { id: 'made-up-1' };
      const trade = { ...made, reference };
      expect(await bench.query(trade)).toEqual({ state: 'unknown_trade' });
      expect(await bench.adapter.closeTrade(bench.account, trade)).toEqual({ state: 'unknown_trade' });
      expect(await bench.query(trade)).toEqual({ state: 'unknown_trade' });
      expect(await bench.books(made)).toMatchObject({ trades: 0 });
    },
  },
  {
    name: 'an unknown trade that can still be paid is declared as such',
    async run(bench) {
      const trade = await bench.create();
      const before = await bench.query(trade);
      if (before.state !== 'unknown_trade') return;
      expect(await bench.adapter.closeTrade(bench.account, trade)).toEqual({ state: 'unknown_trade' });
      const paid = await bench.channel.pay(trade);
      expect(bench.declaration.unknownTradeCanBePaid, 'declared').toBe(paid);
      if (paid) expect((await bench.queryPaid(trade)).state).toBe('paid');
    },
  },
  {
    name: 'a trade created again, also concurrently, is the same trade',
    async run(bench) {
      const trade = bench.newTrade();
      const all = await Promise.all([1, 2, 3].map(() => bench.adapter.createTrade(bench.account, trade)));
      const ids = all.map((created) => (created === 'not_renewable' ? created : created.reference?.id));
      expect(new Set(ids).size, `references ${ids}`).toBe(1);
      await bench.pay(trade);
      expect(await bench.books(trade)).toMatchObject({ trades: 1 });
    },
  },
  {
    name: 'a request for a new action of an existing trade creates no second trade',
    async run(bench) {
      const trade = await bench.create();
      const again = await bench.adapter.createTrade(bench.account, trade);
      if (again !== 'not_renewable') {
        expect(again.action.type).toBe(trade.action.type);
        expect(again.reference?.id ?? trade.reference?.id).toBe(trade.reference?.id);
      }
      await bench.pay(trade);
      const paid = await bench.queryPaid(trade);
      await bench.adapter.createTrade(bench.account, trade).catch(() => {});
      expect(await bench.books(trade)).toMatchObject({ trades: 1 });
      expect(await bench.queryPaid(trade), 'paid as before').toEqual(paid);
    },
  },
  {
    name: 'the create request follows from the payment alone, not from the time or the call',
    async run(bench) {
      const trade = bench.newTrade();
      const copy = structuredClone(trade);
      const create = (of: NewTrade) => async () => await bench.adapter.createTrade(bench.account, of);
      const actions: unknown[] = [];
      const first = await bench.sentDuring(async () => actions.push(await create(trade)()));
      vi.useFakeTimers({ toFake: ['Date'], now: Date.now() + clockMoved });
      let second: typeof first;
      try {
        second = await bench.sentDuring(async () => actions.push(await create(copy)()));
      } finally {
        vi.useRealTimers();
      }
      expect(second.map((sent) => bench.termsOf(sent))).toEqual(first.map((sent) => bench.termsOf(sent)));
      expect(trade, 'the trade that was passed in').toEqual(copy);
      if (bench.protocol.createsWithoutRequest) {
        const [one, other] = actions.map((created) => termsOfLink(bench, created));
        expect(other).toEqual(one);
      }
    },
  },
  {
    name: 'a create whose answer is lost is unknown; its repetition gives the same trade',
    appliesTo: ({ protocol }) => !protocol.createsWithoutRequest,
    async run(bench) {
      const trade = bench.newTrade();
      await bench.loseLastAnswer('createTrade', { trade, refund: bench.refundOf(trade) });
      expect(await bench.books(trade), 'the trade at the channel').toMatchObject({ trades: 1 });
      const created = await bench.adapter.createTrade(bench.account, trade);
      const { findTrade } = bench.adapter;
      if (findTrade !== undefined) {
        const reference = created === 'not_renewable' ? undefined : created.reference;
        expect(await findTrade(bench.account, trade)).toMatchObject({ id: reference?.id });
      } else expect((await bench.query(trade)).state, 'queried by our number').toBe('unpaid');
      await bench.pay({
        ...trade,
        reference: created === 'not_renewable' ? null : (created.reference ?? null),
      });
      expect(await bench.books(trade)).toMatchObject({ trades: 1 });
    },
  },
  {
    name: 'a trade is found by our number in the whole listing, and absent only if the whole listing was read',
    appliesTo: ({ ours }) => ours.adapter.findTrade !== undefined,
    async run(bench) {
      const find = async (trade: NewTrade) =>
        await bench.adapter.findTrade?.(bench.account, { ...trade, reference: null });
      const trade = await bench.create();
      const absent = bench.newTrade({ createdAt: trade.createdAt });
      const { pageSize = 0 } = bench.protocol;
      for (let other = 0; other < pageSize + 1; other++) await bench.create();
      expect(await find(trade)).toMatchObject({ id: trade.reference?.id });
      const sent = await bench.sentDuring(async () => expect(await find(absent)).toBe('absent'));
      expect(sent.length, 'pages read before the trade is absent').toBeGreaterThan(pageSize === 0 ? 0 : 1);
      expect(await bench.books(absent)).toMatchObject({ trades: 0 });
    },
  },
  {
    name: 'after the time in which create is repeatable, the trade is still found and can be renewed',
    appliesTo: ({ ours, channel }) =>
      ours.adapter.declaration.repeatableForMs.create !== null && channel.advance !== undefined,
    async run(bench) {
      const horizonMs = bench.declaration.repeatableForMs.create ?? 0;
      const trade = bench.newTrade();
      const created = await bench.adapter.createTrade(bench.account, trade);
      const reference = created === 'not_renewable' ? undefined : created.reference;
      // The channel must keep the idempotency key at least as long as the declaration promises.
      await bench.channel.advance?.(horizonMs - 60_000);
      await bench.adapter.createTrade(bench.account, trade);
      expect(await bench.books(trade)).toMatchObject({ trades: 1 });
      await bench.channel.advance?.(120_000);
      expect(await bench.adapter.findTrade?.(bench.account, trade)).toMatchObject({ id: reference?.id });
      // The adapter finds the trade by its reference. With the idempotency key alone it would create another trade.
      await bench.adapter.createTrade(bench.account, { ...trade, reference: reference ?? null });
      expect(await bench.books(trade)).toMatchObject({ trades: 1 });
    },
  },
  {
    name: 'the payer is asked for exactly the amount, in every declared currency and at its limits',
    async run(bench) {
      for (const method of bench.declaration.methods) {
        for (const currency of currenciesOf(method)) {
          const limits = limitsOf(method, currency);
          const amounts = [limits.atLeast ?? 1, 1050, limits.atMost ?? MAX_AMOUNT];
          for (const amount of new Set(amounts.map((wanted) => withinLimits(wanted, limits)))) {
            const trade = await bench.createPaid({ method: method.name, currency, amount });
            const books = await bench.books(trade);
            const asked = { asked: withoutZeros(books.asked), currency: books.currency };
            expect(asked).toEqual({ asked: inWholeUnits(amount, currency), currency });
            expect(await bench.queryPaid(trade)).toMatchObject({ amount, currency });
          }
        }
      }
    },
  },
  {
    name: 'subjects in every script are accepted, up to the declared limit',
    async run(bench) {
      for (const { name, subject } of bench.declaration.methods) {
        const texts = fc.sample(fc.string({ unit: 'grapheme', minLength: 1, maxLength: 40 }), 12);
        for (const text of [...SUBJECTS, ...texts.filter((sample) => sample.trim() !== '')]) {
          const full = fill(text, subject);
          const trade = await bench.createOpened({ method: name, subject: full });
          expect(await bench.query(trade)).toEqual({ state: 'unpaid' });
        }
      }
    },
  },
  {
    name: 'a payment that expires sooner than the channel allows is accepted',
    async run(bench) {
      const created = Date.now();
      const trade = await bench.createOpened({
        createdAt: new Date(created).toISOString(),
        expiresAt: new Date(created + 5_000).toISOString(),
      });
      expect(await bench.query(trade)).toEqual({ state: 'unpaid' });
    },
  },
  {
    name: 'the payer fields that a method needs reach the channel',
    appliesTo: ({ ours }) => ours.adapter.declaration.methods.some(({ needs }) => needs.length > 0),
    async run(bench) {
      for (const { name, needs } of bench.declaration.methods) {
        const { payer } = bench.newTrade({ method: name });
        const sent = JSON.stringify(await bench.sentDuring(() => bench.create({ method: name })));
        for (const field of needs) expect(sent, `${field} of ${name}`).toContain(payer[field]);
      }
    },
  },
  {
    name: 'callbacks go to the address that the trade was created with',
    appliesTo: ({ ours }) => ours.adapter.declaration.takesCallbackAddress,
    async run(bench) {
      const trade = await bench.create();
      const { request } = await bench.callbackAfter(trade, () => bench.pay(trade));
      expect(trade.notifyUrl.endsWith(request.path), `${trade.notifyUrl} and not ${request.path}`).toBe(true);
    },
  },
  {
    name: 'the payer never learns the callback address of a trade, which only the channel may know',
    appliesTo: ({ ours }) => ours.adapter.declaration.takesCallbackAddress,
    async run(bench) {
      for (const { name } of bench.declaration.methods) {
        const { action, notifyUrl } = await bench.create({ method: name });
        const given = JSON.stringify(action);
        for (const address of [notifyUrl, encodeURIComponent(notifyUrl)])
          expect(given.includes(address), `${name} shows the payer ${address}`).toBe(false);
      }
    },
  },
];

async function closeOnceAllowed(bench: Bench, trade: NewTrade): Promise<void> {
  const answer = await bench.adapter.closeTrade(bench.account, trade);
  if (answer.state === 'not_yet') {
    await bench.channel.advance?.(Date.parse(answer.until) - Date.now() + 1_000);
    expect(await bench.adapter.closeTrade(bench.account, trade)).toEqual({ state: 'closed' });
  } else expect(answer).toEqual({ state: 'closed' });
}

/**
 * The content of a link that the adapter signs without sending a request. The payer sends this content as a request by
 * opening the link.
 */
function termsOfLink(bench: Bench, created: unknown): unknown {
  const { url } = (created as { action: { url: string } }).action;
  return bench.termsOf({ method: 'GET', path: url, headers: {}, body: '' });
}

const SUBJECTS = [
  ...[
    'Zwei Karten für „Fidelio“',
    '订单：两张电影票',
    'تذكرتان',
    'दो टिकट',
    '🎟️👩‍👩‍👧‍👦 tickets',
    'a&b=c/d?e#f+g%20',
  ],
  ...['<b>"quoted"</b> \\ \u2028', "Robert'); DROP TABLE orders;--", 'line\nbreak\tand tab', 'e\u0301\u0301'],
];

/** Repeats the text up to the limit, in the units in which the channel counts. It never splits a character. */
function fill(text: string, { atMost, countedIn }: { atMost: number; countedIn: string }): string {
  const length = (value: string) => {
    if (countedIn === 'bytes') return Buffer.byteLength(value);
    return countedIn === 'utf16' ? value.length : [...value].length;
  };
  let filled = '';
  for (;;) {
    for (const character of text) {
      if (length(filled + character) > atMost) return filled.trimEnd() || 'x';
      filled += character;
    }
  }
}
