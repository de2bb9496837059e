import { expect, test } from 'vitest';
import { REFUND_NUMBERS_AT_MOST } from '../../src/domain/refund.ts';
import { recordAnswer, settlePayment } from '../../src/ledger/payments.ts';
import { recordNotListed } from '../../src/ledger/refund-keys.ts';
import { requestRefund } from '../../src/ledger/refunds.ts';
import { attempt, db, now, PAID } from './payments-support.ts';

test('if the channel temporarily refused a refund under every key, the refund gets no further key and needs an operator', async () => {
  const { id } = await attempt();
  await recordAnswer(db, id, PAID, 'query', now());
  await settlePayment(db, id, now());
  const given = { amount: 700, note: undefined, idempotencyKey: 'refused for a year' };
  const { refund } = await requestRefund(db, id, given, now());
  const dayAgo = new Date(Date.now() - 24 * 3_600_000);
  const refused = { askedAt: dayAgo, keySpentAt: dayAgo, absentAt: dayAgo, status: 'processing' } as const;
  const underKey = async (nth: number) => {
    await db.refund.update({ where: { id: refund.id }, data: { ...refused, attempt: nth } });
    return await recordNotListed(db, refund.id, PAID, now());
  };
  const stored = () => db.refund.findUniqueOrThrow({ where: { id: refund.id } });

  expect(await underKey(REFUND_NUMBERS_AT_MOST - 1)).toEqual({ next: 'ask' });
  expect(await stored()).toMatchObject({ status: 'processing', attempt: REFUND_NUMBERS_AT_MOST });
  expect(await underKey(REFUND_NUMBERS_AT_MOST)).toMatchObject({ next: 'nothing' });
  expect(await stored()).toMatchObject({ status: 'needs_person', attempt: REFUND_NUMBERS_AT_MOST });
});
