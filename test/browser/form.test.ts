import type { Browser } from 'playwright-core';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { createStripeAdapter } from '../../src/channels/stripe/adapter.ts';
import { validated } from '../../src/channels/validated-adapter.ts';
import type { ChannelAdapter, TradeReference } from '../../src/domain/channel.ts';
import { createApiKey, ensureMerchant } from '../../src/ledger/merchants.ts';
import { recordCreated } from '../../src/ledger/payments.ts';
import { pay, settle, startTestApi, type TestApi, testChannels } from '../api/support.ts';
import { ACCOUNT, newTrade } from '../channels/stripe/support.ts';
import { type StripeDouble, startStripeDouble } from '../doubles/stripe/start.ts';
import { eventually, useDatabase } from '../support/stack.ts';
import { CHROMIUM, DESKTOP, expectAccessible, keep, launch, openTab, PHONE, shows } from './support.ts';

// Tests a channel's own form on the cashier page. The form is Stripe's, and the double serves Stripe's script. The
// page and its API are real, and the double takes the money.

const { databaseUrl } = useDatabase();
let double: StripeDouble;
let api: TestApi;
let browser: Browser;
let key: string;
let adapter: ChannelAdapter;
/** If true, the test creates the next action of each new payment during the request for the payment. */
let isPrepared = true;
const references = new Map<string, TradeReference>();

beforeAll(async () => {
  if (CHROMIUM === undefined) return;
  double = await startStripeDouble();
  adapter = validated(createStripeAdapter({ url: double.url, scriptUrl: `${double.url}/stripe.js` }));
  api = await startTestApi(databaseUrl, { channels: new Map([...testChannels(), ['stripe', adapter]]) });
  const { merchant } = await ensureMerchant(api.db, 'forms', ['simulator', 'simulator2', 'stripe']);
  ({ key } = await createApiKey(api.db, merchant.id, 'merchant'));
  const asUsual = api.workflows.onAwaitNextAction;
  api.workflows.onAwaitNextAction = async (payment) => {
    if (payment.channel !== 'stripe') return await asUsual(payment);
    if (isPrepared) await prepare(payment);
    return isPrepared;
  };
  browser = await launch();
});
afterAll(async () => {
  await browser?.close();
  await api?.close();
  await double?.stop();
});

/** Creates the payment's trade at the double. */
async function prepare({ id: outTradeNo, method }: { id: string; method: string }): Promise<void> {
  const made = await adapter.createTrade(ACCOUNT, newTrade({ outTradeNo, method }));
  if (made === 'not_renewable' || made.reference === undefined) throw new Error('no trade was created');
  references.set(outTradeNo, made.reference);
  await recordCreated(api.db, outTradeNo, made.action, new Date());
}

const order = () => ({ id: `o-${Math.random()}`, amount: 1050, currency: 'EUR' });

/** The checkout URL of a payment, with the address of the test's API. */
const pageOf = ({ checkoutUrl }: { checkoutUrl: string }) =>
  checkoutUrl.replace('https://pay.example', api.url);

describe.skipIf(CHROMIUM === undefined)("a channel's form on the cashier page", () => {
  test("collects the payment on the page, whose content security policy allows only the channel's script", async () => {
    const payment = await pay(api, key, { order: order(), channel: 'stripe', method: 'payment_intent' });
    const { context, page, complaints } = await openTab(browser, [api.url, double.url], DESKTOP);
    const answer = await page.goto(pageOf(payment));
    const policy = (await answer?.headerValue('content-security-policy')) ?? '';
    expect(policy).toContain(`script-src 'self' ${double.url} https://*.js.stripe.com;`);
    expect(policy).toContain(`connect-src 'self' ${double.url};`);
    expect(policy).not.toContain('unsafe');
    await shows(page, 'pay');
    await page.getByText('A card form for pk_test_double').waitFor();

    // After a reload, the page has no token until it sends its stored token again. Until then, its content security
    // policy does not allow the channel's script.
    await page.reload();
    await page.getByText('A card form for pk_test_double').waitFor();

    await page.getByRole('button', { name: 'Pay EUR 10.50' }).click();
    await shows(page, 'asking');
    const reference = references.get(payment.id) ?? null;
    const trade = newTrade({ outTradeNo: payment.id, method: 'payment_intent', reference });
    const paid = await adapter.queryTrade(ACCOUNT, trade);
    if (paid.state !== 'paid') throw new Error(`the trade is ${paid.state}`);
    await settle(api.db, payment.id, { channelPaymentId: paid.channelPaymentId, currency: 'EUR' });
    await eventually(async () => (await page.locator('body').getAttribute('data-screen')) !== 'asking');
    // The payment has ended, so the page loads no form.
    const after = await fetch(pageOf(payment));
    expect(after.headers.get('content-security-policy')).not.toContain('stripe');
    expect(await after.text()).not.toContain('data-form');
    expect(complaints).toEqual([]);
    await context.close();
  });

  test('if the payment has no next action yet, the form is loaded as soon as the next action exists', async () => {
    isPrepared = false;
    const body = { order: order(), channel: 'stripe', method: 'payment_intent' };
    const { status, json: payment } = await api.call('/v1/payments', { key, body });
    isPrepared = true;
    expect(status).toBe(202);
    const { context, page, complaints } = await openTab(browser, [api.url, double.url], DESKTOP);
    const answer = await page.goto(pageOf(payment));
    expect(await answer?.headerValue('content-security-policy')).not.toContain('stripe');
    await prepare(payment);
    await page.getByText('A card form for pk_test_double').waitFor();
    expect(complaints).toEqual([]);
    await context.close();
  });

  test('uses the language of the page, and shows an error in that language if its script does not load', async () => {
    const payment = await pay(api, key, { order: order(), channel: 'stripe', method: 'payment_intent' });
    const { context, page } = await openTab(browser, [api.url, double.url], { ...PHONE, bypassCSP: true });
    await page.route(`${double.url}/stripe.js`, (route) => route.abort());
    await page.goto(pageOf(payment));
    await shows(page, 'no-form');
    await page.getByRole('heading', { name: 'The payment form did not load' }).waitFor();
    expect(await page.locator('#form').isVisible()).toBe(false);
    await expectAccessible(page);
    await keep(page, 'stripe not loaded en');
    await page.getByRole('button', { name: '中文' }).click();
    await page.getByRole('heading', { name: '支付表单未能加载' }).waitFor();
    await keep(page, 'stripe not loaded zh');
    // The payer can try to pay any number of times.
    await page.getByRole('button', { name: '重试' }).click();
    await shows(page, 'no-form');
    await page.unroute(`${double.url}/stripe.js`);
    await page.getByRole('button', { name: '重试' }).click();
    await page.getByRole('button', { name: '支付 EUR 10.50' }).waitFor();
    await keep(page, 'stripe form zh');
    await page.getByRole('button', { name: 'English' }).click();
    await page.getByRole('button', { name: 'Pay EUR 10.50' }).waitFor();
    await expectAccessible(page);
    await keep(page, 'stripe form en');
    await context.close();
  });

  test("shows an error if the server never answers the request for the form's script", async () => {
    const payment = await pay(api, key, { order: order(), channel: 'stripe', method: 'payment_intent' });
    const { context, page } = await openTab(browser, [api.url, double.url], DESKTOP);
    const asked = page.waitForRequest(`${double.url}/stripe.js`);
    await page.route(`${double.url}/stripe.js`, () => undefined);
    await page.clock.install();
    await page.goto(pageOf(payment), { waitUntil: 'commit' });
    await asked;
    await page.clock.runFor(20_000);
    await shows(page, 'no-form');
    await keep(page, 'stripe not loaded desktop');
    await page.unrouteAll({ behavior: 'ignoreErrors' });
    await context.close();
  });

  test('is not on the page of a payment that needs no form', async () => {
    const ofOthers = [
      await pay(api, key),
      await pay(api, key, { order: order(), channel: 'stripe', method: 'checkout' }),
    ];
    for (const payment of ofOthers) {
      const answer = await fetch(pageOf(payment));
      expect(answer.headers.get('content-security-policy')).not.toContain('stripe');
      expect(answer.headers.get('content-security-policy')).not.toContain(double.url);
      expect(await answer.text()).not.toContain('data-form');
    }
  });
});
