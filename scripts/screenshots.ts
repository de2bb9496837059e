// node scripts/run.mjs scripts/screenshots.ts [waiting] [list] [wallet] [cashier] [reference] [shop]
//
// Creates all images in docs/images, or only the named ones. Needs a running `npm start` with the same settings. It
// makes a few payments, waits until nodrop has queried one of them several times, and takes screenshots with the
// system's Chromium.
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { Client, Connection } from '@temporalio/client';
import { type Browser, chromium, type Page } from 'playwright-core';
import { DEVELOPMENT_KEY } from '../src/api/endpoint/auth.ts';
import { loadConfig } from '../src/config.ts';
import { paymentWorkflowId } from '../src/domain/names.ts';
import { shopUrl } from '../src/stack/shop-setup.ts';

const FOLDER = fileURLToPath(new URL('../docs/images', import.meta.url));
/** From this attempt on, nodrop queries a payment every 20 s. One interval is long enough to capture both tabs. */
const ATTEMPT = 4;
/** How long the Web UI needs to load its data and draw the page. */
const SETTLED_MS = 4_000;
const WIDTH = 1400;
/** Width of the Web UI's left bar and height of its top bar, in pixels. The images do not show these bars. */
const BARS = { left: 64, top: 49 };

const config = loadConfig();
const ui = `${config.temporal.uiUrl}/namespaces/${config.temporal.namespace}`;

interface Created {
  readonly id: string;
  readonly payUrl: string;
  readonly checkoutUrl: string;
}

async function newPayment(subject: string, amount: number): Promise<Created> {
  const id = `order-${String(Date.now()).slice(-6)}`;
  const response = await fetch(`${config.api.publicUrl}/v1/payments`, {
    method: 'POST',
    headers: { authorization: `Bearer ${DEVELOPMENT_KEY}`, 'content-type': 'application/json' },
    body: JSON.stringify({ order: { id, amount, currency: 'CNY', subject }, channel: 'simulator' }),
  });
  if (response.status !== 201) throw new Error(`POST /v1/payments answered ${await response.text()}`);
  return (await response.json()) as Created;
}

async function pay({ payUrl }: Created): Promise<void> {
  await fetch(payUrl, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ result: 'success' }),
  });
}

/** Resolves just after a query attempt, so that the next attempt does not change the page during the capture. */
async function untilAsked(client: Client, { id }: Created): Promise<string> {
  for (;;) {
    const { raw, runId } = await client.workflow.getHandle(paymentWorkflowId(id)).describe();
    const query = raw.pendingActivities?.find(({ activityType }) => activityType?.name === 'queryChannel');
    if ((query?.attempt ?? 0) >= ATTEMPT) return runId;
    await sleep(500);
  }
}

async function open(page: Page, url: string): Promise<Page> {
  await page.goto(url);
  await page.waitForTimeout(SETTLED_MS);
  return page;
}

/**
 * Captures two tabs of the same page, one below the other. Captures the first tab completely. From the second tab,
 * captures only the part that differs.
 */
async function photographWaiting(browser: Browser, { id }: Created, runId: string): Promise<void> {
  const run = `${ui}/workflows/${encodeURIComponent(paymentWorkflowId(id))}/${runId}`;
  const page = await browser.newPage({ viewport: { width: WIDTH + BARS.left, height: 1000 } });
  const shots: string[] = [];
  for (const [tab, top, height] of [
    ['user-metadata', BARS.top, 725],
    ['pending-activities', 270, 335],
  ] as const) {
    await open(page, `${run}/${tab}`);
    const clip = { x: BARS.left, y: top, width: WIDTH, height };
    shots.push((await page.screenshot({ clip })).toString('base64'));
  }
  const images = shots.map((shot) => `<img style="display:block" src="data:image/png;base64,${shot}">`);
  await page.setViewportSize({ width: WIDTH, height: 1000 });
  await page.setContent(`<body style="margin:0">${images.join('')}</body>`);
  await page.locator('body').screenshot({ path: join(FOLDER, 'web-ui-waiting.png') });
  await page.close();
}

async function photographList(browser: Browser): Promise<void> {
  const page = await browser.newPage({ viewport: { width: WIDTH, height: 460 } });
  const labels = ['Status', 'Workflow ID', 'OrderId', 'PaymentStatus', 'PaymentAttention'];
  const columns = JSON.stringify({ [config.temporal.namespace]: labels.map((label) => ({ label })) });
  await page.addInitScript({
    content: `localStorage.setItem('namespace-workflow-table-columns', ${JSON.stringify(columns)})`,
  });
  await open(page, `${ui}/workflows?query=${encodeURIComponent('PaymentStatus="paying"')}`);
  await page.screenshot({ path: join(FOLDER, 'web-ui-list.png') });
  await page.close();
}

async function photographWallet(browser: Browser, { payUrl }: Created): Promise<void> {
  const page = await browser.newPage({ viewport: { width: 390, height: 700 }, isMobile: true });
  await page.goto(payUrl);
  await page.screenshot({ path: join(FOLDER, 'wallet.png') });
  await page.close();
}

/** Captures the cashier page on a phone, and on a desktop, where the QR code is visible. */
async function photographCashier(browser: Browser, { checkoutUrl }: Created): Promise<void> {
  for (const [name, options] of [
    ['cashier-phone', { viewport: { width: 390, height: 700 }, isMobile: true, deviceScaleFactor: 2 }],
    ['cashier-desktop', { viewport: { width: 1080, height: 680 } }],
  ] as const) {
    const page = await browser.newPage({ ...options, locale: 'en-GB' });
    await page.goto(checkoutUrl);
    await page.locator('body[data-screen="pay"]').waitFor();
    await page.screenshot({ path: join(FOLDER, `${name}.png`) });
    await page.close();
  }
}

async function photographReference(browser: Browser): Promise<void> {
  const page = await browser.newPage({ viewport: { width: WIDTH, height: 1080 } });
  await open(page, `${config.api.publicUrl}/docs`);
  await page.screenshot({ path: join(FOLDER, 'api-reference.png') });
  await page.close();
}

/** Captures the screens of one purchase on a phone, side by side. */
async function photographShop(browser: Browser): Promise<void> {
  const size = { width: 390, height: 780 };
  const phone = await browser.newPage({ viewport: size, isMobile: true });
  const shots: string[] = [];
  const shoot = async () => shots.push((await phone.screenshot()).toString('base64'));
  await phone.goto(shopUrl(config));
  await shoot();
  await phone.getByRole('button', { name: /^Buy House blend/ }).click();
  const pay = phone.getByRole('link', { name: /^Pay / });
  await pay.waitFor();
  await shoot();
  await pay.click();
  await phone.getByRole('button', { name: 'Pay', exact: true }).click();
  await phone.getByRole('link', { name: 'Back to the shop' }).click();
  await phone.getByRole('heading', { name: 'Paid' }).waitFor();
  await shoot();
  await phone.close();
  const page = await browser.newPage({ viewport: { width: 3 * size.width + 2 * 24, height: size.height } });
  const images = shots.map((shot) => `<img src="data:image/png;base64,${shot}">`);
  await page.setContent(
    `<body style="margin:0;display:flex;gap:24px;background:#8d99a6">${images.join('')}</body>`,
  );
  await page.screenshot({ path: join(FOLDER, 'shop.png') });
  await page.close();
}

const named = process.argv.slice(2);
const wants = (image: string) => named.length === 0 || named.includes(image);
mkdirSync(FOLDER, { recursive: true });
const connection = await Connection.connect({ address: config.temporal.address });
const client = new Client({ connection, namespace: config.temporal.namespace });
const browser = await chromium.launch({
  executablePath: '/usr/bin/chromium',
  args: ['--no-sandbox', '--disable-gpu', '--disable-background-networking', '--disable-component-update'],
});
try {
  const waiting = await newPayment('Coffee', 1990);
  await newPayment('Tea', 1250);
  await pay(await newPayment('Cake', 2400));
  if (wants('wallet')) await photographWallet(browser, waiting);
  if (wants('cashier')) await photographCashier(browser, waiting);
  if (wants('shop')) await photographShop(browser);
  if (wants('reference')) await photographReference(browser);
  if (wants('waiting')) {
    console.log('Waiting until the payment was queried several times ...');
    await photographWaiting(browser, waiting, await untilAsked(client, waiting));
  }
  if (wants('list')) await photographList(browser);
  console.log('docs/images is written.');
} finally {
  await browser.close();
  await connection.close();
}
