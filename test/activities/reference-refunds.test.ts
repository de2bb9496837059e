import { describe, expect, test } from 'vitest';
import { requireDecided } from '../../src/cli/recover-lost.ts';
import { Prisma } from '../../src/generated/prisma/client.ts';
import { recordAnswer, settlePayment } from '../../src/ledger/payments.ts';
import { requestRefund } from '../../src/ledger/refunds.ts';
import { act, channel, clock, ledger, PAID, rest, row, unknownCreate } from './reference-support.ts';

/** Tests refunds at a channel that uses its own ids, while nodrop has not recorded the channel's id of the trade. */

describe('a refund of a trade whose reference nodrop has not recorded', () => {
  /**
   * Creates a paid payment. nodrop did not receive the channel's answer to the create, so it has no reference of the
   * trade. A callback reported the trade as paid.
   */
  async function paidUnreferenced(isThere: boolean) {
    const { id } = await unknownCreate(isThere);
    const answer = { state: 'paid', ...PAID } as const;
    const trade = channel.of(id);
    if (trade !== undefined) trade.answer = answer;
    await recordAnswer(ledger.db, id, answer, 'callback', new Date(clock.now));
    await settlePayment(ledger.db, id, new Date(clock.now));
    const request = { amount: 50, note: undefined, idempotencyKey: `key-${id}` };
    const { refund } = await requestRefund(ledger.db, id, request, new Date(clock.now));
    expect((await row(id)).reference).toBeNull();
    const reference = trade?.id;
    const forget = () =>
      ledger.db.payment.update({ where: { id }, data: { reference: null, referenceData: Prisma.DbNull } });
    return { id, refund, reference, forget };
  }
  const refundRow = (id: string) => ledger.db.refund.findUniqueOrThrow({ where: { id } });

  test('nodrop looks the trade up once, stores its reference, and uses the reference in every call', async () => {
    const { id, refund, reference, forget } = await paidUnreferenced(true);
    expect(await act.refund(refund.id)).toMatchObject({ status: 'succeeded' });
    expect((await row(id)).reference).toBe(reference);
    const [query, refundQuery] = [`query ${reference}`, `query refund ${reference}`];
    expect(channel.calls).toEqual(['find', query, refundQuery, `refund ${reference}`, query]);
    for (const [activity, calls] of [
      ['lookAgainAtRefund', [refundQuery, query]],
      ['askTradeOfRefund', [query]],
    ] as const) {
      await forget();
      channel.calls.length = 0;
      expect((await act[activity](refund.id)) ?? {}).not.toHaveProperty('error');
      expect(channel.calls).toEqual(['find', ...calls]);
    }
  });

  test('before nodrop queries a refund that is processing, it looks the trade up', async () => {
    const { id, refund, reference } = await paidUnreferenced(true);
    channel.refunds.set(refund.id, 50);
    await ledger.db.refund.update({
      where: { id: refund.id },
      data: { status: 'processing', askedAt: new Date(clock.now) },
    });
    expect(await act.queryRefund(refund.id)).toMatchObject({
      snapshot: { status: 'succeeded' },
      known: true,
    });
    expect(channel.calls).toEqual(['find', `query refund ${reference}`, `query ${reference}`]);
    expect((await row(id)).reference).toBe(reference);
  });

  test('if no listing contains the trade, the refund is not requested and its outcome is unknown', async () => {
    const { refund } = await paidUnreferenced(false);
    expect(await act.refund(refund.id)).toMatchObject({
      error: { type: 'Channel.unreachable', nonRetryable: false },
    });
    expect(channel.calls).toEqual(['find']);
    expect(await refundRow(refund.id)).toMatchObject({
      ...{ status: 'created', askedAt: null, unknownSince: new Date(clock.now) },
      failure: expect.stringContaining('does not list the trade of payment'),
    });
  });

  test("if the row of a refund is lost, recovery looks the trade up, and does not end the refund's workflow if no listing contains the trade", async () => {
    const { id, reference } = await paidUnreferenced(true);
    await requireDecided(ledger.db, channel.adapter(rest), await row(id), 're_lost');
    expect(channel.calls).toEqual(['find', ...Array(9).fill(`query refund ${reference}`)]);
    expect((await row(id)).reference).toBe(reference);
    const absent = await paidUnreferenced(false);
    await expect(
      requireDecided(ledger.db, channel.adapter(rest), await row(absent.id), 're_lost'),
    ).rejects.toThrow('simulator did not answer a query about the refund: its workflow stays');
  });
});
