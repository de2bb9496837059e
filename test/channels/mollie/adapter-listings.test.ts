import { expect, test } from 'vitest';
import { serve } from '../contract/http.ts';
import { adapter, double, requests } from './adapter-support.ts';
import { ACCOUNT, adapterAt, created, errorOf, newTrade, refundOf } from './support.ts';

/**
 * Tests listings of Mollie, and answers that do not belong to the request. The contract suite covers everything else.
 */

test('the search for a trade ends at the first page with payments that are older than the trade', async () => {
  const old = newTrade();
  await created(adapter, old);
  for (let nth = 0; nth < 260; nth += 1)
    await double.tell('foreignPayment', { amount: nth + 1, metadata: null });
  const later = newTrade({ createdAt: new Date(Date.now() + 60 * 60_000).toISOString() });
  await requests();
  expect(await adapter.findTrade?.(ACCOUNT, later)).toBe('absent');
  expect(await requests()).toHaveLength(1);
  expect(await adapter.findTrade?.(ACCOUNT, old)).toMatchObject({ id: expect.stringMatching(/^tr_/) });
  expect((await requests()).map(({ path }) => path.replace(/tr_\w+/, 'tr_'))).toEqual([
    '/v2/payments?limit=250',
    '/v2/payments?limit=250&from=tr_',
  ]);
});

test('a listing can be read even if one of its payments has an unknown status', async () => {
  const trade = newTrade();
  const createdAt = new Date().toISOString();
  const odd = {
    resource: 'payment',
    id: 'tr_odd',
    mode: 'test',
    createdAt,
    status: 'teleported',
    metadata: null,
  };
  const sought = { ...odd, id: 'tr_sought', metadata: { nodrop_payment: trade.outTradeNo } };
  const server = await serve(async () => {
    const body = { count: 2, _embedded: { payments: [odd, sought] }, _links: { next: null } };
    return { status: 200, body: JSON.stringify(body) };
  });
  try {
    expect(await adapterAt(server.url).findTrade?.(ACCOUNT, trade)).toEqual({ id: 'tr_sought' });
  } finally {
    server.close();
  }
});

test("the next page of a listing is requested from the adapter's own Mollie URL, even if the link to that page has another host", async () => {
  const asked: string[] = [];
  const server = await serve(async ({ path }) => {
    asked.push(path);
    const next = asked.length > 1 ? null : { href: 'http://169.254.169.254/v2/payments?from=tr_next' };
    const body = { count: 0, _embedded: { payments: [] }, _links: { next } };
    return { status: 200, headers: { date: new Date().toUTCString() }, body: JSON.stringify(body) };
  });
  try {
    expect(await adapterAt(server.url).findTrade?.(ACCOUNT, newTrade())).toBe('absent');
    expect(asked).toEqual(['/v2/payments?limit=250', '/v2/payments?limit=250&from=tr_next']);
  } finally {
    server.close();
  }
});

test('a listing is rejected as garbage if the link to its next page has no `from` parameter', async () => {
  const server = await serve(async () => {
    const next = { href: 'https://api.mollie.com/v2/payments?limit=250' };
    const body = { count: 0, _embedded: { payments: [] }, _links: { next } };
    return { status: 200, headers: { date: new Date().toUTCString() }, body: JSON.stringify(body) };
  });
  try {
    const call = adapterAt(server.url).findTrade?.(ACCOUNT, newTrade()) ?? Promise.resolve();
    expect(await errorOf(call)).toMatchObject({ kind: 'garbage' });
  } finally {
    server.close();
  }
});

test("a refund is rejected if its currency differs from the payment's currency", async () => {
  const trade = newTrade({ reference: { id: 'tr_1' } });
  const refund = refundOf(trade, { channelRefundId: 're_1' });
  const given = {
    ...{ resource: 'refund', id: 're_1', paymentId: 'tr_1', status: 'refunded' },
    ...{ amount: { currency: 'USD', value: '4.00' }, metadata: { nodrop_refund: refund.outRefundNo } },
  };
  const payment = {
    ...{ resource: 'payment', id: 'tr_1', mode: 'test', status: 'paid', metadata: null, _links: {} },
    ...{ amount: { currency: 'EUR', value: '10.50' }, createdAt: '2026-01-02T03:04:05+00:00' },
    paidAt: '2026-01-02T03:05:05+00:00',
  };
  const pageOf = (name: string, items: readonly object[]) => ({
    ...{ count: items.length, _embedded: { [name]: items }, _links: { next: null } },
  });
  const server = await serve(async ({ path, method }) => {
    const body = path.includes('/chargebacks')
      ? pageOf('chargebacks', [])
      : path.includes('/refunds')
        ? method === 'POST' || path.endsWith('re_1')
          ? given
          : pageOf('refunds', [given])
        : payment;
    return { status: 200, body: JSON.stringify(body) };
  });
  try {
    const there = adapterAt(server.url);
    const unnamed = { ...refund, channelRefundId: null };
    const calls = [
      () => there.refundTrade(ACCOUNT, trade, refund),
      () => there.queryRefund(ACCOUNT, trade, refund),
      () => there.queryRefund(ACCOUNT, trade, unnamed),
      () => there.queryTrade(ACCOUNT, trade),
    ];
    for (const call of calls) expect(await errorOf(call())).toMatchObject({ kind: 'garbage' });
  } finally {
    server.close();
  }
});
