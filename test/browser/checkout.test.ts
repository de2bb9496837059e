import type { Browser, BrowserContextOptions, Page } from 'playwright-core';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { eventually } from '../support/stack.ts';
import { type Answer, type System, startSystem } from '../support/system.ts';
import {
  anotherPage,
  CHROMIUM,
  DESKTOP,
  expectAccessible,
  launch,
  openTab,
  PHONE,
  shows,
  type Tab,
} from './support.ts';

// Payers at the cashier page, in a real browser, over the whole real stack. Every callback is lost and no query is due on
// schedule: what the page's hints do not find out, nothing does.

/** The least the API takes; one payment of it is opened first and looked at last. */
const SHORTEST_EXPIRY_S = 60;

let system: System;
let browser: Browser;
let expiring: Cashier & { readonly id: string };

beforeAll(async () => {
  if (CHROMIUM === undefined) return;
  [system, browser] = await Promise.all([
    startSystem({ withWorker: true, env: { NODROP_QUERY_SCHEDULE: '1h' } }),
    launch(),
  ]);
  await system.simulator.setFaults({ callback: { dropRate: 1 } });
  // A worker that has only just started may take longer than the API waits for it.
  await eventually(async () => (await system.pay({})).status === 201);
});
beforeAll(async () => {
  if (CHROMIUM === undefined) return;
  const made = await pay({ expiresInSeconds: SHORTEST_EXPIRY_S });
  expiring = { ...(await openCashier(made)), id: made.id };
  await shows(expiring.page, 'pay');
});
afterAll(async () => {
  await browser?.close();
  await system?.stop();
});

async function pay(changes: object = {}): Promise<Answer['body']> {
  const { status, body } = await system.pay(changes);
  expect(status).toBe(201);
  return body;
}

const addressOf = ({ id, clientToken }: Answer['body'], query = '') =>
  `${system.apiUrl}/checkout/${id}?token=${clientToken}${query}`;

const allowed = () => [system.apiUrl, system.config.simulator.url];

interface Cashier extends Tab {
  /** Every screen the page has shown, over all its loads. */
  readonly screens: string[];
}

async function openCashier(made: Answer['body'], options: BrowserContextOptions = PHONE): Promise<Cashier> {
  const tab = await openTab(browser, allowed(), options);
  const screens: string[] = [];
  await tab.context.exposeFunction('noteScreen', (screen: string) => void screens.push(screen));
  await tab.page.addInitScript(`
    new MutationObserver(() => document.body && noteScreen(document.body.dataset.screen)).observe(document, {
      subtree: true, attributes: true, attributeFilter: ['data-screen'],
    });
  `);
  await tab.page.goto(addressOf(made));
  return { ...tab, screens };
}

const hasRun = (page: Page) => page.locator('html[data-runs]').waitFor({ state: 'attached' });
const payLink = (page: Page) => page.getByRole('link', { name: /^Pay / });
const attemptOn = (channel: string, { orderId }: Answer['body']) =>
  system.db.payment.findFirstOrThrow({ where: { orderId, channel } });
/** What the channel answered to the queries, the first of equal answers each, and what it was asked by. */
const queriesOf = async (paymentId: string) => {
  const where = { paymentId, kind: 'query' };
  const entries = await system.db.timelineEntry.findMany({ where, orderBy: { id: 'asc' } });
  return entries.map(({ data }) => data).filter((data) => !('count' in (data as object)));
};
const settledBy = async (id: string) =>
  (await system.db.payment.findUniqueOrThrow({ where: { id } })).settledBy;

describe.skipIf(CHROMIUM === undefined)('the payer', () => {
  test('pays in the wallet and comes back: paid, and never unpaid on the way', async () => {
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
    console.log(`paid is shown ${Date.now() - began} ms after the way back`);
    await page.getByRole('heading', { name: 'Paid' }).waitFor();
    expect(screens.filter((screen) => screen !== 'asking' && screen !== 'paid')).toEqual([]);
    expect(page.url()).toBe(`${system.apiUrl}/checkout/${made.id}`);
    // What makes it quick, however slow the machine: the hint's first query has the answer, and nobody waits for another.
    expect(await settledBy(made.id)).toBe('hint');
    const since = (await queriesOf(made.id)).slice(before);
    expect(since[0]).toEqual({ state: 'paid', by: 'hint' });
    expect(since.length).toBeLessThanOrEqual(2);
    expect(complaints).toEqual([]);
    await context.close();
  });

  test('is told by the event stream alone, where no other reading gets through', async () => {
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

  test('comes back by the browser’s own button', async () => {
    const made = await pay();
    const { page, context } = await openCashier(made);
    await payLink(page).click();
    await page.getByRole('button', { name: 'Pay' }).click();
    await page.getByText('Paid.').waitFor();
    // Over the wallet's page after and its page before the payment.
    await page.evaluate('history.go(-2)');
    await shows(page, 'paid');
    expect(await settledBy(made.id)).toBe('hint');
    await context.close();
  });

  test('comes back in another browser, which the wallet opened', async () => {
    const made = await pay();
    await system.simulator.pay(made.id);
    const { page, context } = await openTab(browser, allowed());
    await page.goto(`${system.apiUrl}/return/${made.id}?token=${made.clientToken}`);
    await shows(page, 'paid');
    expect(page.url()).toBe(`${system.apiUrl}/checkout/${made.id}`);
    await context.close();
  });

  test('comes back without having paid: is asked not to pay again while the bank is asked, and can go on', async () => {
    const made = await pay();
    const { page, screens, context } = await openCashier(made);
    await payLink(page).click();
    screens.length = 0;
    await page.getByRole('link', { name: 'Back' }).click();
    await shows(page, 'asking');
    // The service's page says so before the script has drawn anything.
    await hasRun(page);
    expect(new Set(screens)).toEqual(new Set(['asking']));
    // Also after a reload.
    await page.reload();
    await shows(page, 'asking');
    await hasRun(page);
    expect(new Set(screens)).toEqual(new Set(['asking']));
    await page.getByRole('button', { name: 'I have not paid' }).click();
    await shows(page, 'pay');
    expect(await page.evaluate('document.activeElement.id')).toBe('title');
    await context.close();
  });

  test('scans the code with another phone, and says so', async () => {
    const made = await pay();
    const { page, context } = await openCashier(made, DESKTOP);
    await page.getByRole('img', { name: 'QR code' }).waitFor();
    await system.simulator.pay(made.id);
    await page.getByRole('button', { name: 'I have paid' }).click();
    await shows(page, 'paid');
    expect(await settledBy(made.id)).toBe('hint');
    await context.close();
  });

  test('scans the code with another phone, and looks at the page again', async () => {
    const made = await pay();
    const { page, context } = await openCashier(made, DESKTOP);
    await shows(page, 'pay');
    await system.simulator.pay(made.id);
    // As browsers say it; this one is never hidden.
    await page.evaluate(`document.dispatchEvent(new Event('visibilitychange'))`);
    await shows(page, 'paid');
    expect(await settledBy(made.id)).toBe('hint');
    await context.close();
  });

  test('declines: not paid, and nothing was charged', async () => {
    const made = await pay();
    const { page, context } = await openCashier(made);
    await payLink(page).click();
    await page.getByRole('button', { name: 'Decline' }).click();
    await page.getByRole('link', { name: 'Back to the shop' }).click();
    await shows(page, 'unpaid');
    await page.getByText('Nothing was charged.').waitFor();
    await context.close();
  });

  test('declines, and pays in another way', async () => {
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
    // Also not while the new attempt was made.
    expect(screens.slice(0, 2)).toEqual(['preparing', 'pay']);
    expect(screens).not.toContain('unpaid');
    await context.close();
  });

  test('changes the channel, and goes on to the shop with the attempt that was paid', async () => {
    const made = await pay({ returnUrl: `${system.apiUrl}/healthz?from=shop` });
    const { page, context } = await openCashier(made, DESKTOP);
    await shows(page, 'pay');
    await page.getByRole('button', { name: 'Second simulated wallet' }).click();
    await page.getByText('With Second simulated wallet.').waitFor();
    const second = await attemptOn('simulator2', made);
    await system.simulator.pay(second.id);
    await page.getByRole('button', { name: 'I have paid' }).click();
    await shows(page, 'paid');
    // Also after a reload.
    await page.reload();
    await shows(page, 'paid');
    await page.getByRole('link', { name: 'Back to the shop' }).click();
    await page.waitForURL(`${system.apiUrl}/healthz?from=shop&paymentId=${second.id}`);
    await context.close();
  });

  test('has two attempts open that can both be paid, and pays the first: the second one’s page says that it is paid', async () => {
    const made = await pay();
    const first = await openCashier(made, DESKTOP);
    const second = await openCashier(made, DESKTOP);
    await Promise.all([shows(first.page, 'pay'), shows(second.page, 'pay')]);
    // The channel says nothing of the first one, which therefore stays open beside the second.
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

  test('declines in two tabs, pays in one: the other takes no second payment, and does not say unpaid any more', async () => {
    const made = await pay();
    await system.simulator.pay(made.id, 'declined');
    const first = await openCashier(made, DESKTOP);
    const second = await openCashier(made, DESKTOP);
    await first.page.getByRole('button', { name: 'I have paid' }).click();
    await Promise.all([shows(first.page, 'unpaid'), shows(second.page, 'unpaid')]);
    // The first tab learns nothing by itself any more.
    await first.page.route(/\/v1\/payments\/[^/]+(\/events)?$/, (route) => route.abort());
    await second.page.getByRole('button', { name: 'Second simulated wallet' }).click();
    await shows(second.page, 'pay');
    await system.simulator.pay((await attemptOn('simulator2', made)).id);
    await second.page.getByRole('button', { name: 'I have paid' }).click();
    await shows(second.page, 'paid');
    first.screens.length = 0;
    await first.page.getByRole('button', { name: 'Second simulated wallet' }).click();
    await shows(first.page, 'settled');
    await first.page.getByText('It has been paid already. Do not pay again.').waitFor();
    expect(await first.page.evaluate('document.activeElement.id')).toBe('title');
    expect(new Set(first.screens)).toEqual(new Set(['preparing', 'settled']));
    expect(await system.db.payment.count({ where: { orderId: made.orderId } })).toBe(2);
    await first.page.unrouteAll({ behavior: 'ignoreErrors' });
    await first.page.reload();
    await shows(first.page, 'settled');
    await first.context.close();
    await second.context.close();
  });

  test('changes the channel: the first attempt is closed, and the second pays the order', async () => {
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
    // The new attempt is this tab's own now.
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

  test('changes the channel after paying: learns that it is paid', async () => {
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

  test('has two tabs open: both learn of it', async () => {
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

  test('goes on to the shop when it is over', async () => {
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

  test('loads the page again: the token is in no address, and still there', async () => {
    const made = await pay();
    const { page, context } = await openCashier(made);
    await shows(page, 'pay');
    await page.reload();
    await shows(page, 'pay');
    await page.getByText('Coffee').waitFor();
    const stripped = page.url();
    expect(stripped).not.toContain('ct_');
    expect(await page.content()).not.toContain(made.clientToken);
    await context.close();
    // Elsewhere the address alone opens nothing.
    const elsewhere = await openTab(browser, allowed());
    await elsewhere.page.goto(stripped);
    await shows(elsewhere.page, 'gone');
    await elsewhere.context.close();
  });

  test('has a wrong token: a page that says so, as 404', async () => {
    const made = await pay();
    const { page, context, complaints } = await openTab(browser, allowed());
    const answer = await page.goto(`${system.apiUrl}/checkout/${made.id}?token=ct_wrong`);
    expect(answer?.status()).toBe(404);
    await page.getByRole('heading', { name: 'This link opens no payment' }).waitFor();
    expect(complaints).toEqual([]);
    await context.close();
  });

  test('has the keyboard alone', async () => {
    const made = await pay();
    const { page, context } = await openCashier(made, DESKTOP);
    await shows(page, 'pay');
    const press = async (name: RegExp) => {
      const focused = () => page.evaluate<string>('document.activeElement.textContent');
      for (let presses = 0; presses < 20 && !name.test(await focused()); presses += 1)
        await page.keyboard.press('Tab');
      expect(await focused()).toMatch(name);
      await page.keyboard.press('Enter');
    };
    await press(/^中文$/);
    await press(/^English$/);
    await press(/^Pay /);
    await page.getByText('Ready to pay.').waitFor();
    await press(/^Pay$/);
    await page.getByText('Paid.').waitFor();
    await press(/^Back to the shop$/);
    await shows(page, 'paid');
    await context.close();
  });

  test('reads Chinese, or changes to it', async () => {
    const made = await pay();
    const { page, context } = await openCashier(made, { ...PHONE, locale: 'zh-CN' });
    await page.getByRole('link', { name: '支付 CNY 19.90' }).waitFor();
    await page.getByRole('button', { name: 'English' }).click();
    await payLink(page).waitFor();
    expect(await page.locator('html').getAttribute('lang')).toBe('en');
    await page.reload();
    await payLink(page).waitFor();
    await context.close();
  });

  test.each([
    ['en-GB', 'Ready to pay', /^Pay CNY 19.90$/, 'Pay', 'Back to the shop', 'Paid'],
    ['zh-CN', '待支付', /^支付 CNY 19.90$/, '支付', '返回商家', '支付成功'],
  ])(
    'has no JavaScript: pays in the wallet, comes back, and reads that it is paid, in %s',
    async (locale, ready, payName, button, back, paidTitle) => {
      const made = await pay();
      const { page, complaints, context } = await openTab(browser, allowed(), {
        ...PHONE,
        locale,
        javaScriptEnabled: false,
      });
      await page.goto(addressOf(made));
      await page.getByRole('heading', { name: ready }).waitFor();
      await page.getByText('Coffee').waitFor();
      await page.getByRole('link', { name: payName }).click();
      // The wallet.
      await page.getByText('CNY 19.90', { exact: true }).waitFor();
      const choose = page.getByRole('link', { name: locale === 'zh-CN' ? 'English' : '中文' });
      const box = await choose.boundingBox();
      expect(Math.min(box?.width ?? 0, box?.height ?? 0)).toBeGreaterThanOrEqual(44);
      await page.getByRole('button', { name: button, exact: true }).click();
      await page.getByRole('link', { name: back }).click();
      // The hint of the way back is all that asks, and the page looks again by itself.
      await page.getByRole('heading', { name: paidTitle }).waitFor();
      expect(await settledBy(made.id)).toBe('hint');
      expect(complaints).toEqual([]);
      await context.close();
    },
  );

  test('chooses the language of the wallet, which keeps it while they pay', async () => {
    const made = await pay();
    const { page, context } = await openCashier(made, { ...PHONE, bypassCSP: true });
    await payLink(page).click();
    await page.getByText('Ready to pay.').waitFor();
    await expectAccessible(page);
    await page.getByRole('link', { name: '中文' }).click();
    await expectAccessible(page);
    await page.getByRole('button', { name: '支付' }).click();
    await page.getByText('支付成功。').waitFor();
    await expectAccessible(page);
    await page.getByRole('link', { name: '返回商家' }).click();
    await shows(page, 'paid');
    await context.close();
  });

  test('has no connection for 20 s: the page says so, claims nothing, and goes on by itself', async () => {
    const made = await pay();
    const { page, screens, context } = await openTabWithClock(made);
    await shows(page, 'pay');
    await context.setOffline(true);
    await page.getByRole('button', { name: 'I have paid' }).click();
    await system.simulator.pay(made.id);
    await page.getByText('No connection to the payment service').waitFor();
    await page.clock.runFor(20_000);
    await shows(page, 'asking');
    await context.setOffline(false);
    await shows(page, 'paid');
    await page.getByText('No connection to the payment service').waitFor({ state: 'detached' });
    expect(screens.filter((screen) => !['loading', 'pay', 'asking', 'paid'].includes(screen))).toEqual([]);
    // The hint that was lost on the way was given again.
    expect(await settledBy(made.id)).toBe('hint');
    await context.close();
  });

  async function openTabWithClock(made: Answer['body']) {
    const tab = await openCashier(made, DESKTOP);
    await tab.page.clock.install();
    await tab.page.goto(addressOf(made));
    return tab;
  }

  test('is cut off in the middle, as the API is killed: learns of it all the same', async () => {
    const made = await pay();
    const { page, context } = await openCashier(made, DESKTOP);
    await shows(page, 'pay');
    system.kill('api');
    await system.simulator.pay(made.id);
    await page.getByRole('button', { name: 'I have paid' }).click();
    await shows(page, 'paid');
    await context.close();
  });

  test('is shown the end of the time to pay while the page is open', async () => {
    const { page, screens, complaints, context, id } = expiring;
    await eventually(
      async () => (await system.db.payment.findUniqueOrThrow({ where: { id } })).status === 'closed',
      (SHORTEST_EXPIRY_S + 60) * 1000,
    );
    await shows(page, 'expired');
    await page.getByText('Nothing was charged.').waitFor();
    expect(await page.getByRole('timer').isVisible()).toBe(false);
    expect(screens.filter((screen) => !['loading', 'pay', 'asking', 'expired'].includes(screen))).toEqual([]);
    expect(complaints).toEqual([]);
    await context.close();
  });
});
