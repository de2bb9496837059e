import { describe, expect, test } from 'vitest';
import { setMerchant } from '../../src/ledger/merchants.ts';
import { newKey, newOrderId, pay, SECRET } from '../api/support.ts';
import { eventually } from '../support/stack.ts';
import { api, browser, key, LOOKS, openWith, paid } from './screens-support.ts';
import { anotherPage, CHROMIUM, openTab, shows } from './support.ts';

/** Tests how the cashier page reacts when the answer, the time, the channel or the return URL changes. */

describe.skipIf(CHROMIUM === undefined)('the cashier page', () => {
  describe('the link back to the shop', () => {
    const opened = async (returnUrl: string) => {
      const { key: own, merchantId } = await newKey(api.db);
      const { name } = await api.db.merchant.findUniqueOrThrow({ where: { id: merchantId } });
      await setMerchant(api.db, name, { returnSchemes: ['myapp'] }, SECRET, new Date());
      const made = await pay(api, own, { returnUrl: 'myapp://thanks' });
      // The test writes the return URL into the database, because the API would refuse it.
      await api.db.payment.update({ where: { id: made.id }, data: { returnUrl } });
      // This tab respects the content security policy. Other tabs of these tests bypass the policy.
      const tab = await openTab(browser, [api.url], LOOKS[0]);
      await tab.page.route('**/v1/payments/*/events', (route) => route.abort());
      await tab.page.route(/\/v1\/payments\/[^/]+$/, async (route) => {
        const response = await route.fetch();
        await route.fulfill({ response, json: { ...(await response.json()), ...paid } });
      });
      await tab.page.goto(`${api.url}/checkout/${made.id}?token=${made.clientToken}`);
      await shows(tab.page, 'paid');
      return { ...tab, made };
    };
    test('leads to an app that the merchant has allowed, on the cashier page and on the wallet page', async () => {
      const { context, page, complaints, made } = await opened('myapp://thanks');
      const there = `myapp://thanks?paymentId=${made.id}`;
      const back = page.getByRole('link', { name: 'Back to the shop' });
      expect(await back.getAttribute('href')).toBe(there);
      // No app on this machine opens the URL, but the page must not block it.
      const followed = page.waitForRequest(there);
      await back.click();
      await followed;
      await shows(page, 'paid');
      await page.reload();
      await shows(page, 'paid');
      expect(await back.getAttribute('href')).toBe(there);
      expect(complaints).toEqual([`asks ${there}`]);
      // The payer comes from the wallet. The browser is redirected to the app's URL, which nothing on this machine
      // opens.
      const wallet = await anotherPage(context, [api.url]);
      const asked = wallet.page.waitForRequest(there);
      await wallet.page.goto(`${api.url}/return/${made.id}?token=${made.clientToken}`).catch(() => undefined);
      await asked;
      expect(wallet.complaints).toEqual([`asks ${there}`]);
      await context.close();
    });

    test.each([
      'javascript:document.title="run"',
      'data:text/html,x',
      'vbscript:x',
      'blob:x',
      'JavaScript:1',
      ' x:y',
    ])('is not shown for the return URL %s, even if this URL is stored', async (returnUrl) => {
      const { context, page, complaints } = await opened(returnUrl);
      const back = page.locator('#back');
      for (const _ of ['opened', 'reloaded']) {
        expect([await back.isVisible(), await back.getAttribute('href')]).toEqual([false, null]);
        await page.reload();
        await shows(page, 'paid');
      }
      expect(complaints).toEqual([]);
      await context.close();
    });
  });

  test('keeps a final state on the page if an older answer arrives later', async () => {
    const made = await pay(api, key);
    const { page, close } = await openWith(LOOKS[0]);
    let changes: object = paid;
    let reads = 0;
    await page.route('**/v1/payments/*/events', (route) => route.abort());
    await page.route(/\/v1\/payments\/[^/]+$/, async (route) => {
      const response = await route.fetch();
      await route.fulfill({ response, json: { ...(await response.json()), ...changes } });
      reads += 1;
    });
    await page.goto(`${api.url}/checkout/${made.id}?token=${made.clientToken}`);
    for (const [ends, screen] of [
      [paid, 'paid'],
      [{ status: 'cancelled', orderState: 'paid', nextAction: null }, 'settled'],
    ] as const) {
      changes = ends;
      await page.reload();
      await shows(page, screen);
      changes = {};
      const before = reads;
      await page.evaluate(`document.dispatchEvent(new Event('visibilitychange'))`);
      // The page reads the payment again only after it has processed the previous read. So after two more reads, it has
      // processed the first of them.
      await eventually(() => reads >= before + 2);
      expect(await page.evaluate('document.body.dataset.screen')).toBe(screen);
    }
    await close();
  });

  test('after an attempt has ended, the page continues to read the payment, and reads it immediately when the page becomes visible', async () => {
    const made = await pay(api, key, { returnUrl: 'https://shop.example/thanks' });
    const { page, close } = await openWith(LOOKS[0]);
    let changes: object = { status: 'failed', orderState: 'undecided', nextAction: null };
    await page.route('**/v1/payments/*/events', (route) => route.abort());
    await page.route(/\/v1\/payments\/[^/]+$/, async (route) => {
      const response = await route.fetch();
      await route.fulfill({ response, json: { ...(await response.json()), ...changes } });
    });
    await page.goto(`${api.url}/checkout/${made.id}?token=${made.clientToken}`);
    await shows(page, 'asking');
    changes = { status: 'failed', orderState: 'open', nextAction: null };
    await shows(page, 'unpaid');
    changes = { ...paid, orderUpdate: 'review', orderState: 'undecided' };
    await page.evaluate(`document.dispatchEvent(new Event('visibilitychange'))`);
    await shows(page, 'review');
    changes = { ...paid, orderUpdate: 'conflict', refundReason: 'late_payment', refundStatus: 'created' };
    await shows(page, 'returning');
    changes = { ...changes, refundStatus: 'succeeded' };
    await shows(page, 'returned');
    await close();
  });

  test("links back to the shop's latest return URL, even if that URL changes while the page is open", async () => {
    const order = { id: newOrderId(), amount: 1050, currency: 'CNY' };
    const live = await pay(api, key, { order, returnUrl: 'https://shop.example/a' });
    const { page, close } = await openWith(LOOKS[0]);
    await page.goto(`${api.url}/checkout/${live.id}?token=${live.clientToken}`);
    await shows(page, 'pay');
    // The link is in the page but hidden, because the page shows the pay button.
    const back = page.locator('#back');
    expect(await back.getAttribute('href')).toBe(`https://shop.example/a?paymentId=${live.id}`);
    const body = { order, channel: 'simulator', returnUrl: 'https://shop.example/c' };
    expect((await api.call('/v1/payments', { key, body })).status).toBe(200);
    const expected = `https://shop.example/c?paymentId=${live.id}`;
    for (const _ of ['open', 'reloaded']) {
      await eventually(async () => (await back.getAttribute('href')) === expected);
      await page.reload();
      await shows(page, 'pay');
    }
    await close();
  });

  test('after another attempt has paid the order, the page continues to read its own attempt, and shows that this attempt was paid later', async () => {
    const made = await pay(api, key);
    const { page, close } = await openWith(LOOKS[0]);
    let changes: object = { status: 'cancelled', orderState: 'paid', nextAction: null };
    await page.route('**/v1/payments/*/events', (route) => route.abort());
    await page.route(/\/v1\/payments\/[^/]+$/, async (route) => {
      const response = await route.fetch();
      await route.fulfill({ response, json: { ...(await response.json()), ...changes } });
    });
    await page.goto(`${api.url}/checkout/${made.id}?token=${made.clientToken}`);
    await shows(page, 'settled');
    const refund = { refundReason: 'duplicate_payment', refundStatus: 'created' };
    changes = { ...paid, orderUpdate: 'conflict', orderState: 'paid', ...refund };
    await shows(page, 'returning');
    await page.getByRole('heading', { name: 'Paid twice' }).waitFor();
    await close();
  });

  test('if the channel does not answer, the page soon offers the other channels', async () => {
    const made = await pay(api, key);
    const { page, close } = await openWith(LOOKS[0]);
    await page.clock.install();
    const at = await page.evaluate<number>('Date.now()');
    const silent = {
      status: 'created',
      nextAction: null,
      payUrl: null,
      createdAt: new Date(at).toISOString(),
    };
    await page.route('**/v1/payments/*/events', (route) => route.abort());
    await page.route(new RegExp(`/v1/payments/${made.id}$`), async (route) => {
      const response = await route.fetch();
      await route.fulfill({ response, json: { ...(await response.json()), ...silent } });
    });
    await page.goto(`${api.url}/checkout/${made.id}?token=${made.clientToken}`);
    await page.clock.runFor(9_000);
    await shows(page, 'slow');
    await page.getByRole('heading', { name: 'Pay another way' }).waitFor();
    await page.getByRole('button', { name: 'Second simulated wallet' }).click();
    await shows(page, 'pay');
    expect(page.url()).not.toContain(made.id);
    await close();
  });

  test.each([
    ['channel_rejected', 422, 'Please choose another way.', '请选择其他方式'],
    ['unknown_channel', 422, 'Please choose another way.', '请选择其他方式'],
    ['currency_not_supported', 422, 'Please choose another way.', '请选择其他方式'],
    ['channel_unreachable', 502, 'Please try again.', '请重试'],
  ])('says what to do when a channel switch is refused: %s', async (code, status, english, chinese) => {
    const made = await pay(api, key);
    for (const look of LOOKS) {
      const { page, close } = await openWith(look);
      await page.route('**/switch', (route) =>
        route.fulfill({
          status,
          contentType: 'application/problem+json',
          body: JSON.stringify({ code, status, detail: '', requestId: '' }),
        }),
      );
      await page.goto(`${api.url}/checkout/${made.id}?token=${made.clientToken}`);
      await shows(page, 'pay');
      await page.locator('#channels button').click();
      await page.locator('#alert:not(:empty)').waitFor();
      expect(await page.locator('#alert').textContent()).toContain(
        look.locale === 'zh-CN' ? chinese : english,
      );
      await close();
    }
  });

  test('if the payer must pay elsewhere, the page shows the result without a reload and links back to the shop', async () => {
    const made = await pay(api, key, { returnUrl: 'https://shop.example/thanks' });
    const { page, close } = await openWith(LOOKS[0]);
    let changes: object = { nextAction: { type: 'sdk', params: {} }, payUrl: null };
    await page.route('**/v1/payments/*/events', (route) => route.abort());
    await page.route(/\/v1\/payments\/[^/]+$/, async (route) => {
      const response = await route.fetch();
      await route.fulfill({ response, json: { ...(await response.json()), ...changes } });
    });
    await page.goto(`${api.url}/checkout/${made.id}?token=${made.clientToken}`);
    await shows(page, 'elsewhere');
    await page.getByRole('timer').waitFor();
    expect(await page.getByRole('link', { name: /^Pay / }).count()).toBe(0);
    expect(await page.getByRole('link', { name: 'Back to the shop' }).getAttribute('href')).toBe(
      `https://shop.example/thanks?paymentId=${made.id}`,
    );
    expect(await page.getByRole('button', { name: 'Second simulated wallet' }).isVisible()).toBe(true);
    // A payer who pressed "I have paid" without paying can go back to the payment.
    await page.getByRole('button', { name: 'I have paid' }).click();
    await shows(page, 'asking');
    await page.getByRole('button', { name: 'I have not paid' }).click();
    await shows(page, 'elsewhere');
    changes = paid;
    await page.evaluate(`document.dispatchEvent(new Event('visibilitychange'))`);
    await shows(page, 'paid');
    await close();
  });

  test('if the payer opens the wallet with the context menu or the middle mouse button, the page behaves as after a click', async () => {
    const made = await pay(api, key);
    for (const button of ['middle', 'right'] as const) {
      const { page, close } = await openWith(LOOKS[1]);
      await page.goto(`${api.url}/checkout/${made.id}?token=${made.clientToken}`);
      await shows(page, 'pay');
      await page.evaluate(`addEventListener('auxclick', (event) => event.preventDefault())`);
      await page.locator('#pay').click({ button });
      await page.evaluate(`document.dispatchEvent(new Event('visibilitychange'))`);
      await shows(page, 'asking');
      await close();
    }
  });

  /**
   * Opens a payment that expires in 605 s. The test sets the service's clock and the page's clock. The page's clock is
   * `behind` seconds behind the service's clock.
   */
  async function openAtSetTimes(behind = 0) {
    const made = await pay(api, key);
    const { page, close } = await openWith(LOOKS[0]);
    const start = Date.parse('2026-03-01T12:00:00.000Z');
    let passed = 0;
    await page.route('**/v1/payments/*/events', (route) => route.abort());
    await page.route(/\/v1\/payments\/[^/]+$/, async (route) => {
      const response = await route.fetch();
      const times = {
        createdAt: new Date(start).toISOString(),
        expiresAt: new Date(start + 605_000).toISOString(),
      };
      const date = new Date(start + passed).toUTCString();
      await route.fulfill({
        response,
        headers: { ...response.headers(), date },
        json: { ...(await response.json()), ...times },
      });
    });
    const at = (ms: number) => {
      passed = ms;
      return page.clock.setFixedTime(start + ms - behind * 1000);
    };
    await at(0);
    await page.goto(`${api.url}/checkout/${made.id}?token=${made.clientToken}`);
    await shows(page, 'pay');
    return { page, at, close };
  }

  test('announces that one minute is left, but makes no announcement when the page opens', async () => {
    const { page, at, close } = await openAtSetTimes();
    await page.getByText('10:05', { exact: true }).waitFor();
    expect(await page.locator('#announcement').textContent()).toBe('');
    await at(546_000);
    await page.getByText('One minute left to pay.').waitFor({ state: 'attached' });
    await close();
  });

  // The page uses the service's time, because the page's own clock may be wrong.
  test.each([0, 60])(
    'shows the exact remaining time, even if the page’s clock is %i s behind',
    async (behind) => {
      const { page, at, close } = await openAtSetTimes(behind);
      const timeLeft = (text: string) => page.getByText(text, { exact: true }).waitFor();
      await timeLeft('10:05');
      await at(546_000);
      await timeLeft('0:59');
      await at(604_000);
      await timeLeft('0:01');
      await at(605_000);
      await shows(page, 'asking');
      expect(await page.getByRole('timer').isVisible()).toBe(false);
      await close();
    },
  );
});
