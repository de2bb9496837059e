import { beforeAll, beforeEach, describe, expect, test } from 'vitest';
import type { PaidAnswer } from '../../src/domain/channel.ts';
import { ensureMerchant } from '../../src/ledger/merchants.ts';
import { insertPayment } from '../../src/ledger/new-payment.ts';
import { resolvePayment } from '../../src/ledger/operator-decision.ts';
import { recordAnswer, settlePayment } from '../../src/ledger/payments.ts';
import { recoverPayment } from '../../src/ledger/recover-payment.ts';
import { tradeOf } from '../../src/ledger/trade-of-payment.ts';
import { useDatabase } from '../support/stack.ts';

/**
 * Tests adopted trades whose money pays no order. The ledger distinguishes adopted trades that nodrop only watches from
 * adopted trades that are nodrop's own.
 */

const { db } = useDatabase();
let merchantId: string;
beforeAll(async () => {
  ({
    merchant: { id: merchantId },
  } = await ensureMerchant(db, 'shop', ['simulator', 'simulator2']));
});

let n = 0;
beforeEach(() => {
  n += 1;
});

/** Creates an attempt at the order of this test. If `as` is given, the attempt adopts a trade. */
async function attempt(channel: 'simulator' | 'simulator2', as?: 'watched' | 'own', of = merchantId) {
  const { payment } = await insertPayment(
    db,
    of,
    {
      ...{ id: `order-${n}`, amount: 1050, currency: 'CNY', subject: 'x', metadata: {} },
      expiresInSeconds: undefined,
    },
    {
      ...{ channel, method: 'wallet', payer: undefined, returnUrl: undefined, metadata: {} },
      expiresInMs: 60_000,
      askedAttempts: new Set((await db.payment.findMany({ select: { id: true } })).map(({ id }) => id)),
      ...(as === undefined ? {} : { adopt: { reference: `shop-${n}-${channel}`, as } }),
    },
    (id) => id,
    new Date(),
  );
  return payment;
}

/** Records a paid answer for the payment and settles it. */
async function paid(id: string, changes: Partial<PaidAnswer> = {}) {
  const paidAt = new Date().toISOString();
  const answer = {
    state: 'paid',
    channelPaymentId: id,
    amount: 1050,
    currency: 'CNY',
    paidAt,
    ...changes,
  } as const;
  await recordAnswer(db, id, answer, 'query', new Date());
  const { refund } = await settlePayment(db, id, new Date());
  return { refund, row: await db.payment.findUniqueOrThrow({ where: { id } }) };
}

describe('a second success', () => {
  test("if the order's second success is from a watched trade, it waits for an operator, who can refund it", async () => {
    const [first, second] = [await attempt('simulator'), await attempt('simulator2', 'watched')];
    await paid(first.id);
    const { refund, row } = await paid(second.id);
    expect(row).toMatchObject({ orderUpdate: 'review', attention: 'order_conflict' });
    expect(row.attentionDetail).toContain(
      "The trade is the merchant's own and only watched: a person decides.",
    );
    expect([refund, await db.refund.count({ where: { paymentId: second.id } })]).toEqual([null, 0]);
    const { refunds } = await resolvePayment(db, merchantId, second.id, 'refund', 'twice', new Date());
    expect(refunds.map(({ amount, paymentId }) => [amount, paymentId])).toEqual([[1050n, second.id]]);
  });

  test("if the order's second success is from an adopted trade that nodrop owns, it is refunded automatically", async () => {
    const [first, second] = [await attempt('simulator'), await attempt('simulator2', 'own')];
    await paid(first.id);
    const { refund, row } = await paid(second.id);
    expect(row).toMatchObject({ orderUpdate: 'conflict', attention: 'order_conflict' });
    expect(refund).not.toBeNull();
  });

  test('money of a watched trade that awaits a decision is not refunded when another trade pays the order', async () => {
    const [watched, other] = [await attempt('simulator', 'watched'), await attempt('simulator2')];
    expect((await paid(watched.id, { amount: 1051 })).row).toMatchObject({ orderUpdate: 'review' });
    expect((await paid(other.id)).row).toMatchObject({ orderUpdate: 'applied' });
    expect(await db.payment.findUniqueOrThrow({ where: { id: watched.id } })).toMatchObject({
      orderUpdate: 'review',
    });
    expect(await db.refund.count({ where: { paymentId: watched.id } })).toBe(0);
  });
});

describe('one trade that is visible to two accounts and adopted at each of them', () => {
  let other: string;
  beforeAll(async () => {
    ({
      merchant: { id: other },
    } = await ensureMerchant(db, 'shop-2', ['simulator']));
  });

  test.each(['watched', 'own'] as const)(
    'if both payments adopt the trade as `%s`, one payment pays its order and the other payment waits for an operator',
    async (as) => {
      for (let round = 0; round < 5; round++, n++) {
        const both = [await attempt('simulator', as), await attempt('simulator', as, other)];
        const settled = await Promise.all(both.map(({ id }) => paid(id, { channelPaymentId: `trade-${n}` })));
        expect(settled.map(({ row }) => row.orderUpdate).sort()).toEqual(['applied', 'review']);
        const second = settled.find(({ row }) => row.orderUpdate === 'review');
        expect([second?.refund, second?.row.attention]).toEqual([null, 'order_conflict']);
        expect(second?.row.attentionDetail).toContain(
          'Another payment adopted this trade at another account',
        );
        // The money of this `watched` trade belongs to the first order. So it is not refunded automatically if another
        // payment pays the second order.
        expect(second?.row.adopted).toBe('watched');
      }
    },
  );

  test('if the second payment’s first answer already reports a full refund, no operator has to decide', async () => {
    const [first, second] = [
      await attempt('simulator', 'watched'),
      await attempt('simulator', 'watched', other),
    ];
    const shared = { channelPaymentId: `trade-${n}` };
    await paid(first.id, shared);
    const { row } = await paid(second.id, { ...shared, state: 'refunded' });
    expect(row).toMatchObject({ orderUpdate: 'conflict', attention: null });
  });

  test('if nodrop created the trades of both payments, both payments pay their orders, even if the trades have the same id', async () => {
    const [first, second] = [await attempt('simulator'), await attempt('simulator', undefined, other)];
    const shared = { channelPaymentId: `trade-${n}` };
    await paid(first.id, shared);
    expect((await paid(second.id, shared)).row.orderUpdate).toBe('applied');
  });
});

test('a recovered payment keeps the number of the trade that it adopted', async () => {
  const adopted = await attempt('simulator', 'watched');
  const { id: paymentId, reference } = adopted;
  await db.timelineEntry.deleteMany({ where: { paymentId } });
  await db.payment.delete({ where: { id: paymentId } });
  const terms = {
    ...{ paymentId, merchantId, orderId: adopted.orderId, channel: adopted.channel },
    ...{ channelAccountId: adopted.channelAccountId, method: adopted.method },
    ...{ amount: 1050, currency: 'CNY', createdAt: Date.now(), expiresAt: Date.now() + 60_000 },
    adoption: { reference: reference ?? '', as: 'watched' as const },
  };
  const { payment } = await recoverPayment(db, terms, 'hash', new Date());
  expect(tradeOf(payment)).toMatchObject({ outTradeNo: reference, isAdopted: true });
  expect(payment.adopted).toBe('watched');
});
