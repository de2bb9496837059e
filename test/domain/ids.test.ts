import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import {
  attemptOf,
  automaticRefundId,
  externalRefundId,
  isAutomaticRefundId,
  newPaymentId,
  refundIdOf,
  refundNumber,
  replacementRefundId,
  requestedRefundId,
} from '../../src/domain/ids.ts';
import { REFUND_NUMBERS_AT_MOST } from '../../src/domain/refund.ts';

/**
 * A refund's id is its idempotency key at the channel. So every release must give the same request the same id.
 */
describe('the id of a refund that the merchant requests', () => {
  const request = {
    merchantId: 'mer_01KB0000000000000000000000',
    paymentId: 'pay_01KB1111111111111111111111',
    idempotencyKey: 'refund-1',
    amount: 400,
  } as const;

  test.each([
    [request, 're_0fcfbb582518ab7af008c2b704a6'],
    [{ ...request, amount: 'all' as const }, 're_2a51d770aebb5ceb83dbf89b1bc7'],
    [
      { ...request, amount: Number.MAX_SAFE_INTEGER, idempotencyKey: '~"[,]\\!' },
      're_39e9026e19e00d0a275959a638b1',
    ],
  ])('never changes: %j', (given, id) => {
    expect(requestedRefundId(given)).toBe(id);
  });

  test('differs if the merchant, the payment, the key or the amount differs, even if the joined texts of these values are equal', () => {
    const others = [
      request,
      { ...request, merchantId: 'mer_01KB0000000000000000000001' },
      { ...request, paymentId: 'pay_01KB1111111111111111111112' },
      { ...request, idempotencyKey: 'refund-2' },
      { ...request, amount: 401 },
      { ...request, amount: 'all' as const },
      { ...request, idempotencyKey: 'refund-14', amount: 0 },
      { ...request, idempotencyKey: 'refund-1",400', amount: 0 },
      { ...request, paymentId: `${request.paymentId}r`, idempotencyKey: 'efund-1' },
    ];
    expect(new Set(others.map(requestedRefundId)).size).toBe(others.length);
  });

  test('is valid at every channel, and never equals the id of an automatic refund', () => {
    const id = requestedRefundId(request);
    expect(id).toMatch(/^re_[0-9a-f]{28}$/);
    expect(isAutomaticRefundId(id, request.paymentId)).toBe(false);
    const automatic = [1, 2, 36 ** 3 - 1].map((nth) => automaticRefundId(request.paymentId, nth).length);
    expect(automatic).not.toContain(id.length);
  });
});

test('the id of a replacement refund is always the same for its refund, and differs from all other ids of refunds', () => {
  const id = 're_2a51d770aebb5ceb83dbf89b1bc7';
  const rest = replacementRefundId(id);
  expect(rest).toBe('re_9c550cc3cd33c4f7895b48929226');
  expect(replacementRefundId(rest)).not.toBe(rest);
  expect(isAutomaticRefundId(rest, 'pay_01KB1111111111111111111111')).toBe(false);
});

test('each number that a refund has at the channel leads back to the refund, is unique, and is valid at every channel', () => {
  // An id whose hash has only digits is the easiest to confuse with a refund number, because a refund number can end in
  // the number of an attempt.
  for (const id of [automaticRefundId('pay_01KAKD7Z7C8Q6W4Y9V5T3R1P0N', 2), `re_${'2'.repeat(28)}`, 're_2']) {
    expect(refundNumber(id, 1)).toBe(id);
    expect(refundNumber(id, 2)).toBe(`${id}_2`);
    for (const attempt of [1, 2, 9, 10, 99, 100, REFUND_NUMBERS_AT_MOST]) {
      expect(refundIdOf(refundNumber(id, attempt))).toBe(id);
      expect(attemptOf(refundNumber(id, attempt))).toBe(attempt);
      expect(refundNumber(id, attempt)).toMatch(/^[0-9A-Za-z_]{1,64}$/);
    }
  }
});

test('ids are valid at every channel, and the id of an automatic refund is always the same for its payment', () => {
  fc.assert(
    fc.property(fc.constant(null), () => {
      const id = newPaymentId();
      for (const each of [
        id,
        automaticRefundId(id),
        automaticRefundId(id, 46_655),
        externalRefundId(id),
        externalRefundId(id, 2),
        externalRefundId(id, 46_655),
      ])
        expect(each).toMatch(/^[0-9A-Za-z_]{1,32}$/);
      expect(automaticRefundId(id)).toBe(automaticRefundId(id));
      const nths = [1, 2, 36, 100];
      const automatic = nths.map((nth) => automaticRefundId(id, nth));
      const ids = [id, ...automatic, ...nths.map((nth) => externalRefundId(id, nth))];
      expect(new Set(ids).size).toBe(9);
      expect(ids.filter((each) => isAutomaticRefundId(each, id))).toEqual(automatic);
    }),
  );
});
