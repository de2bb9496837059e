import pg from 'pg';
import { expect, test, vi } from 'vitest';
import { createReadOrder } from '../../../src/api/payments/read-order.ts';
import { pay, setUp } from '../support.ts';

const { api, key, merchantId } = await setUp();

test('one SQL statement reads the orders of all concurrent readers, and each reader gets only the order that it requested', async () => {
  const [one, other] = [await pay(api, key), await pay(api, key)];
  const read = createReadOrder(api);
  const queries = vi.spyOn(pg.Client.prototype, 'query');
  try {
    const ids = Array.from({ length: 40 }, (_, n) => (n % 2 === 0 ? one : other).orderId);
    const found = await Promise.allSettled([...ids, 'not-there'].map((id) => read(merchantId, id)));
    expect(found.slice(0, -1)).toMatchObject(ids.map((id) => ({ status: 'fulfilled', value: { id } })));
    expect(found.at(-1)).toMatchObject({ status: 'rejected', reason: { code: 'order_not_found' } });
    const texts = queries.mock.calls.map(([query]) => (query as { text?: string }).text ?? '');
    expect(texts.filter((text) => /FROM orders AS o\b/.test(text))).toHaveLength(1);
  } finally {
    queries.mockRestore();
  }
});
