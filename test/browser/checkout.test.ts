import type { Page } from 'playwright-core';
import { describe, expect, test } from 'vitest';
import { eventually } from '../support/stack.ts';
import type { Answer } from '../support/system.ts';
import {
  addressOf,
  allowed,
  browser,
  openCashier,
  pay,
  payLink,
  settledBy,
  system,
} from './checkout-support.ts';
import { anotherPage, CHROMIUM, DESKTOP, openTab, shows } from './support.ts';

// Tests payers who pay at the cashier page in the wallet, on another channel, and in several tabs.

const hasRun = (page: Page) => page.locator('html[data-runs]').waitFor({ state: 'attached' });
const attemptOn = (channel: string, { orderId }: Answer['body']) =>
  system.db.payment.findFirstOrThrow({ where: { orderId, channel } });
/**
 * The query entries of the payment's timeline: each answer of the channel, and what caused the query. Entries that
 * count repeated answers are left out.
 */
const queriesOf = async (paymentId: string) => {
  const where = { paymentId, kind: 'query' };
  const entries = await system.db.timelineEntry.findMany({ where, orderBy: { id: 'asc' } });
  return entries.map(({ data }) => data).filter((data) => !('count' in (data as object)));
};

describe.skipIf(CHROMIUM === undefined)('the payer', () => {
  test('pays in the wallet and comes back to a page that shows the payment as paid and never as unpaid', async () => {
    const made = await pay();
    const { page, screens, complaints, context } = await openCashier(made);
    await shows(page, 'pay');
    await page.getByText('CNY 19.90').first().waitFor();
    await page.getByText('Coffee').waitFor();
    expect(page.url()).toBe(`${system.apiUrl}/checkout/${made.id}`);
    await payLink(page).click();
    await page.getByRole('button', { name: 'Pay' }).click();
    screens.length = 0;
    const before = (await queriesOf(made.id)).length;
    const began = Date.now();
    await page.getByRole('link', { name: 'Back to the shop' }).click();
    await shows(page, 'paid');
    console.log(`"Paid" is shown ${Date.now() - began} ms after the payer came back`);
    await page.getByRole('heading', { name: 'Paid' }).waitFor();
    expect(screens.filter((screen) => screen !== 'asking' && screen !== 'paid')).toEqual([]);
    expect(page.url()).toBe(`${system.apiUrl}/checkout/${made.id}`);
    // The first query after the hint gets the paid answer, so the test does not wait for further queries.
    expect(await settledBy(made.id)).toBe('hint');
    const since = (await queriesOf(made.id)).slice(before);
    expect(since[0]).toEqual({ state: 'paid', by: 'hint' });
    expect(since.length).toBeLessThanOrEqual(2);
    expect(complaints).toEqual([]);
    await context.close();
  });

  test('learns through the event stream that the payment is paid, even if all other reads fail', async () => {
    const made = await pay();
    const { page, context } = await openTab(browser, allowed(), DESKTOP);
    await page.route(/\/v1\/payments\/[^/]+$/, (route) => route.abort());
    await page.goto(addressOf(made));
    await shows(page, 'pay');
    await system.simulator.pay(made.id);
    await page.getByRole('button', { name: 'I have paid' }).click();
    await shows(page, 'paid');
    await context.close();
  });

  test("goes back from the wallet with the browser's back button, and sees the result", async () => {
    const made = await pay();
    const { page, context } = await openCashier(made);
    await payLink(page).click();
    await page.getByRole('button', { name: 'Pay' }).click();
    await page.getByText('Paid.').waitFor();
    // Goes back two pages in the browser's history, past the two pages of the wallet, to the cashier page.
    await page.evaluate('history.go(-2)');
    await shows(page, 'paid');
    expect(await settledBy(made.id)).toBe('hint');
    await context.close();
  });

  test('pays, and sees the result in another browser that the wallet opened', async () => {
    const made = await pay();
    await system.simulator.pay(made.id);
    const { page, context } = await openTab(browser, allowed());
    await page.goto(`${system.apiUrl}/return/${made.id}?token=${made.clientToken}`);
    await shows(page, 'paid');
    expect(page.url()).toBe(`${system.apiUrl}/checkout/${made.id}`);
    await context.close();
  });

  test('comes back without paying, is asked not to pay again while the channel is queried, and can then continue', async () => {
    const made = await pay();
    const { page, screens, context } = await openCashier(made);
    await payLink(page).click();
    screens.length = 0;
    await page.getByRole('link', { name: 'Back' }).click();
    await shows(page, 'asking');
    // The HTML from the server already shows this screen before the script has drawn anything.
    await hasRun(page);
    expect(new Set(screens)).toEqual(new Set(['asking']));
    // The page shows the same screen after a reload.
    await page.reload();
    await shows(page, 'asking');
    await hasRun(page);
    expect(new Set(screens)).toEqual(new Set(['asking']));
    await page.getByRole('button', { name: 'I have not paid' }).click();
    await shows(page, 'pay');
    expect(await page.evaluate('document.activeElement.id')).toBe('title');
    await context.close();
  });

  test('scans the code with another phone, pays, and presses "I have paid"', async () => {
    const made = await pay();
    const { page, context } = await openCashier(made, DESKTOP);
    await page.getByRole('img', { name: 'QR code' }).waitFor();
    await system.simulator.pay(made.id);
    await page.getByRole('button', { name: 'I have paid' }).click();
    await shows(page, 'paid');
    expect(await settledBy(made.id)).toBe('hint');
    await context.close();
  });

  test('scans the code with another phone, pays, and sees the result on returning to the page', async () => {
    const made = await pay();
    const { page, context } = await openCashier(made, DESKTOP);
    await shows(page, 'pay');
    await system.simulator.pay(made.id);
    // The test dispatches `visibilitychange` itself, because the page of this headless browser is never hidden.
    await page.evaluate(`document.dispatchEvent(new Event('visibilitychange'))`);
    await shows(page, 'paid');
    expect(await settledBy(made.id)).toBe('hint');
    await context.close();
  });

  test('declines, and the page shows that nothing was charged', async () => {
    const made = await pay();
    const { page, context } = await openCashier(made);
    await payLink(page).click();
    await page.getByRole('button', { name: 'Decline' }).click();
    await page.getByRole('link', { name: 'Back to the shop' }).click();
    await shows(page, 'unpaid');
    await page.getByText('Nothing was charged.').waitFor();
    await context.close();
  });

  test('declines, and pays on another channel', async () => {
    const made = await pay();
    const { page, screens, context } = await openCashier(made);
    await payLink(page).click();
    await page.getByRole('button', { name: 'Decline' }).click();
    await page.getByRole('link', { name: 'Back to the shop' }).click();
    await shows(page, 'unpaid');
    screens.length = 0;
    await page.getByRole('button', { name: 'Second simulated wallet' }).click();
    await payLink(page).click();
    await page.getByRole('button', { name: 'Pay' }).click();
    await page.getByRole('link', { name: 'Back to the shop' }).click();
    await shows(page, 'paid');
    expect(await system.orderStatus(made.orderId)).toBe('succeeded');
    // While the new attempt was created, the page did not say "unpaid".
    expect(screens.slice(0, 2)).toEqual(['preparing', 'pay']);
    expect(screens).not.toContain('unpaid');
    await context.close();
  });

  test('switches the channel, pays, and returns to the shop with the id of the attempt that was paid', async () => {
    const made = await pay({ returnUrl: `${system.apiUrl}/healthz?from=shop` });
    const { page, context } = await openCashier(made, DESKTOP);
    await shows(page, 'pay');
    await page.getByRole('button', { name: 'Second simulated wallet' }).click();
    await page.getByText('With Second simulated wallet.').waitFor();
    const second = await attemptOn('simulator2', made);
    await system.simulator.pay(second.id);
    await page.getByRole('button', { name: 'I have paid' }).click();
    await shows(page, 'paid');
    // The page shows the same screen after a reload.
    await page.reload();
    await shows(page, 'paid');
    await page.getByRole('link', { name: 'Back to the shop' }).click();
    await page.waitForURL(`${system.apiUrl}/healthz?from=shop&paymentId=${second.id}`);
    await context.close();
  });

  test('pays the first of two open attempts, and the page of the second attempt shows the order as paid', async () => {
    const made = await pay();
    const first = await openCashier(made, DESKTOP);
    const second = await openCashier(made, DESKTOP);
    await Promise.all([shows(first.page, 'pay'), shows(second.page, 'pay')]);
    // The channel does not answer the query of the first attempt. So the first attempt stays open, together with the
    // second.
    await system.simulator.setFaults({ query: { errorRate: 1 }, close: { errorRate: 1 } });
    await second.page.getByRole('button', { name: 'Second simulated wallet' }).click();
    await second.page.getByText('With Second simulated wallet.').waitFor();
    await system.simulator.setFaults({ query: { errorRate: 0 }, close: { errorRate: 0 } });
    await shows(second.page, 'pay');
    await system.simulator.pay(made.id);
    await first.page.getByRole('button', { name: 'I have paid' }).click();
    await shows(first.page, 'paid');
    await shows(second.page, 'settled');
    await second.page.getByRole('heading', { name: 'This order is paid' }).waitFor();
    const other = await attemptOn('simulator2', made);
    await eventually(async () => {
      const { status } = await system.db.payment.findUniqueOrThrow({ where: { id: other.id } });
      return ['closed', 'cancelled'].includes(status);
    });
    await second.page.reload();
    await shows(second.page, 'settled');
    expect(second.screens).not.toContain('unpaid');
    expect(second.screens).not.toContain('expired');
    await first.context.close();
    await second.context.close();
  });

  test('pays in the second of two tabs that show a declined payment, and the first tab then accepts no second payment', async () => {
    const made = await pay();
    await system.simulator.pay(made.id, 'declined');
    const first = await openCashier(made, DESKTOP);
    const second = await openCashier(made, DESKTOP);
    await first.page.getByRole('button', { name: 'I have paid' }).click();
    await Promise.all([shows(first.page, 'unpaid'), shows(second.page, 'unpaid')]);
    // From this point on, the first tab cannot read the payment.
    await first.page.route(/\/v1\/payments\/[^/]+(\/events)?$/, (route) => route.abort());
    await second.page.getByRole('button', { name: 'Second simulated wallet' }).click();
    await shows(second.page, 'pay');
    await system.simulator.pay((await attemptOn('simulator2', made)).id);
    await second.page.getByRole('button', { name: 'I have paid' }).click();
    await shows(second.page, 'paid');
    first.screens.length = 0;
    await first.page.getByRole('button', { name: 'Second simulated wallet' }).click();
    await shows(first.page, 'settled');
    await first.page.getByText('It was already paid. Do not pay again.').waitFor();
    expect(await first.page.evaluate('document.activeElement.id')).toBe('title');
    expect(new Set(first.screens)).toEqual(new Set(['preparing', 'settled']));
    expect(await system.db.payment.count({ where: { orderId: made.orderId } })).toBe(2);
    await first.page.unrouteAll({ behavior: 'ignoreErrors' });
    await first.page.reload();
    await shows(first.page, 'settled');
    await first.context.close();
    await second.context.close();
  });

  test('switches the channel, which closes the first attempt, and pays the order with the second attempt', async () => {
    const made = await pay();
    const { page, complaints, context } = await openCashier(made);
    await shows(page, 'pay');
    await page.getByRole('button', { name: 'Second simulated wallet' }).click();
    const isSecond = page.getByText('With Second simulated wallet.');
    await isSecond.waitFor();
    expect(await page.evaluate('document.activeElement.id')).toBe('title');
    const second = await attemptOn('simulator2', made);
    expect(page.url()).toBe(`${system.apiUrl}/checkout/${second.id}`);
    const first = async () => (await system.db.payment.findUniqueOrThrow({ where: { id: made.id } })).status;
    await eventually(async () => ['closed', 'cancelled'].includes(await first()));
    // After a reload, this tab shows the new attempt.
    await page.reload();
    await isSecond.waitFor();
    await payLink(page).click();
    await page.getByRole('button', { name: 'Pay' }).click();
    await page.getByRole('link', { name: 'Back to the shop' }).click();
    await shows(page, 'paid');
    expect(await system.orderStatus(made.orderId)).toBe('succeeded');
    expect(complaints).toEqual([]);
    await context.close();
  });

  test('pays, then switches the channel, and learns that the order is already paid', async () => {
    const made = await pay();
    const { page, context } = await openCashier(made, DESKTOP);
    await shows(page, 'pay');
    await system.simulator.pay(made.id);
    await page.getByRole('button', { name: 'Second simulated wallet' }).click();
    await shows(page, 'paid');
    expect(page.url()).toBe(`${system.apiUrl}/checkout/${made.id}`);
    expect(await system.db.payment.count({ where: { orderId: made.orderId } })).toBe(1);
    await context.close();
  });

  test('has the page open in two tabs, and each tab shows the payment as paid', async () => {
    const made = await pay();
    const { page, context } = await openCashier(made);
    const second = await anotherPage(context, allowed());
    await second.page.goto(addressOf(made));
    await Promise.all([shows(page, 'pay'), shows(second.page, 'pay')]);
    await payLink(page).click();
    await page.getByRole('button', { name: 'Pay' }).click();
    await page.getByRole('link', { name: 'Back to the shop' }).click();
    await Promise.all([shows(page, 'paid'), shows(second.page, 'paid')]);
    await context.close();
  });

  test('returns to the shop after the payment', async () => {
    const made = await pay({ returnUrl: `${system.apiUrl}/healthz?from=shop` });
    const { page, context } = await openCashier(made, DESKTOP);
    await shows(page, 'pay');
    await system.simulator.pay(made.id);
    await page.getByRole('button', { name: 'I have paid' }).click();
    await shows(page, 'paid');
    await page.getByRole('link', { name: 'Back to the shop' }).click();
    await page.waitForURL(`${system.apiUrl}/healthz?from=shop&paymentId=${made.id}`);
    await context.close();
  });
});
