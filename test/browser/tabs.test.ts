import { readFileSync } from 'node:fs';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import type { Browser, BrowserContext, Page, Request } from 'playwright-core';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { eventually } from '../support/stack.ts';
import { type Answer, type System, startSystem } from '../support/system.ts';
import { anotherPage, CHROMIUM, DESKTOP, launch, shows } from './support.ts';

// Tests seven pages of one browser at the same time. The API speaks HTTP/1.1, so the browser opens six connections to
// it for all pages together. No callback arrives and no query is scheduled, so only a hint can detect that a payer has
// paid.

const PAGES = 7;
/** The number of pages that may hold a long request open at the same time. */
const MAX_OPEN = 3;

let system: System;
let browser: Browser;
let context: BrowserContext;

beforeAll(async () => {
  if (CHROMIUM === undefined) return;
  [system, browser] = await Promise.all([
    startSystem({ withWorker: true, env: { NODROP_QUERY_SCHEDULE: '1h' } }),
    launch(),
  ]);
  await system.simulator.setFaults({ callback: { dropRate: 1 } });
});
afterAll(async () => {
  await browser?.close();
  await system?.stop();
});
beforeEach(async () => {
  if (CHROMIUM === undefined) return;
  context = await browser.newContext({ locale: 'en-GB', ...DESKTOP });
});
afterEach(async () => {
  await context?.close();
});

async function pay(): Promise<Answer['body']> {
  // A worker that has just started may need longer to create a payment than the API waits for the result.
  return await eventually(async () => {
    const { status, body } = await system.pay();
    return status === 201 && body;
  });
}

const isStream = (request: Request) => new URL(request.url()).pathname.endsWith('/events');
const isHeld = (request: Request) => isStream(request) || /[?&]wait=/.test(request.url());
const isPoll = (request: Request) => request.method() === 'GET' && /\/pay_\w+$/.test(request.url());

/** Records the requests that the page sends to the API. */
function watch(page: Page) {
  const asked: Request[] = [];
  const open = new Set<Request>();
  page.on('request', (request) => {
    if (!request.url().includes('/v1/')) return;
    asked.push(request);
    open.add(request);
  });
  page.on('requestfinished', (request) => void open.delete(request));
  page.on('requestfailed', (request) => void open.delete(request));
  return { asked, streams: () => [...open].filter(isStream).length };
}

interface Opened extends ReturnType<typeof watch> {
  readonly made: Answer['body'];
  readonly page: Page;
}

/**
 * Pages of a headless browser are never hidden. So this function sets the state and dispatches the event as browsers
 * do.
 */
const setVisible = (page: Page, isVisible: boolean) =>
  page.evaluate(`
    Object.defineProperty(document, 'visibilityState', { configurable: true, value: '${isVisible ? 'visible' : 'hidden'}' });
    document.dispatchEvent(new Event('visibilitychange'));
  `);

const streaming = (opened: readonly Opened[]) => opened.filter((one) => one.streams() > 0);

async function openCashier(): Promise<Opened> {
  const made = await pay();
  const { page } = await anotherPage(context, [system.apiUrl]);
  const watched = watch(page);
  await page.goto(`${system.apiUrl}/checkout/${made.id}?token=${made.clientToken}`);
  await shows(page, 'pay');
  return { made, page, ...watched };
}

/** Opens the pages one after the other, as a person does. */
async function openCashiers(): Promise<Opened[]> {
  const opened: Opened[] = [];
  for (let number = 0; number < PAGES; number += 1) {
    opened.push(await openCashier());
    await eventually(() => streaming(opened).length >= Math.min(opened.length, MAX_OPEN));
  }
  return opened;
}

/** The payer pays with a phone and presses "I have paid" on the page. */
async function payAndSay({ made, page }: Opened): Promise<void> {
  await system.simulator.pay(made.id);
  await page.getByRole('button', { name: 'I have paid' }).click();
  await shows(page, 'paid');
  expect((await system.db.payment.findUniqueOrThrow({ where: { id: made.id } })).settledBy).toBe('hint');
}

describe.skipIf(CHROMIUM === undefined)('seven cashier pages in one browser', () => {
  test('if all seven pages are visible, each of them loads, three of them have a stream, and "I have paid" works on each of them', async () => {
    const opened = await openCashiers();
    const others = opened.filter((one) => one.streams() === 0);
    expect(others).toHaveLength(PAGES - MAX_OPEN);
    // The pages without a stream poll repeatedly. The API answers each poll immediately.
    for (const { asked } of others)
      await eventually(() => asked.filter((request) => isPoll(request)).length >= 3);
    for (const { asked } of others) expect(asked.filter(isHeld).map((request) => request.url())).toEqual([]);
    for (const one of opened) await payAndSay(one);
  });

  test('pages that become hidden release their streams to visible pages, and "I have paid" works on each page', async () => {
    const opened = await openCashiers();
    const hidden = streaming(opened);
    const waiting = opened.filter((one) => !hidden.includes(one));
    for (const { page } of hidden) await setVisible(page, false);
    await eventually(() => streaming(waiting).length === MAX_OPEN && streaming(hidden).length === 0);
    for (const { asked } of hidden) {
      const before = asked.length;
      await eventually(() => asked.slice(before).filter(isPoll).length >= 2);
      expect(asked.slice(before).filter(isHeld)).toEqual([]);
    }
    for (const one of opened) await payAndSay(one);
  });

  test('a page that becomes visible again gets a stream as soon as a slot is free', async () => {
    const opened = await openCashiers();
    const [first, second] = streaming(opened);
    if (first === undefined || second === undefined) throw new Error('No page has a stream.');
    await setVisible(first.page, false);
    await eventually(() => first.streams() === 0 && streaming(opened).length === MAX_OPEN);
    await setVisible(first.page, true);
    const before = first.asked.length;
    await eventually(() => first.asked.slice(before).filter(isPoll).length >= 2);
    expect(first.streams()).toBe(0);
    // Closes all other pages except `second`, so that `first` gets the next stream.
    for (const { page } of opened.filter((one) => one !== first && one !== second)) await page.close();
    await eventually(() => first.streams() === 1);
    expect(second.streams()).toBe(1);
  });
});

describe.skipIf(CHROMIUM === undefined)(
  'cashier pages without Web Locks, which browsers do not offer to pages without TLS',
  () => {
    test('the visible page has a stream, and "I have paid" works on each page', async () => {
      await context.addInitScript(`Object.defineProperty(navigator, 'locks', { value: undefined })`);
      const opened: Opened[] = [];
      for (let number = 0; number < PAGES; number += 1) {
        for (const { page } of opened) await setVisible(page, false);
        opened.push(await openCashier());
        await eventually(() => opened.at(-1)?.streams() === 1 && streaming(opened).length === 1);
      }
      for (const one of opened.slice(1)) await payAndSay(one);
      const [first] = opened;
      if (first === undefined) throw new Error('No page is open.');
      await setVisible(first.page, true);
      await eventually(() => first.streams() === 1);
    });
  },
);

describe.skipIf(CHROMIUM === undefined)("a shop's page that waits for seven payments", () => {
  const CLIENT = readFileSync(new URL('../../clients/js/index.js', import.meta.url));

  let shop: Server;
  beforeAll(async () => {
    shop = createServer((request, response) => {
      if (request.url === '/nodrop.js')
        response.writeHead(200, { 'content-type': 'text/javascript' }).end(CLIENT);
      else response.writeHead(200, { 'content-type': 'text/html' }).end('<!doctype html><title>Shop</title>');
    });
    await new Promise<void>((resolve) => shop.listen(0, '127.0.0.1', resolve));
  });
  afterAll(async () => {
    await new Promise((resolve) => shop?.close(resolve));
  });

  test('has three streams, and gets the result of each of the seven payments after a hint', async () => {
    const { page } = await anotherPage(context, [system.apiUrl, 'http://127.0.0.1']);
    const { streams } = watch(page);
    await page.goto(`http://127.0.0.1:${(shop.address() as AddressInfo).port}/`);
    const made: Answer['body'][] = [];
    for (let number = 0; number < PAGES; number += 1) made.push(await pay());
    await page.evaluate(`(async () => {
      const { createClient } = await import('/nodrop.js');
      const nodrop = createClient({ baseUrl: ${JSON.stringify(system.apiUrl)} });
      window.seen = {};
      window.results = {};
      window.hint = (id, token) => nodrop.hint(id, { token });
      for (const [id, token] of ${JSON.stringify(made.map(({ id, clientToken }) => [id, clientToken]))})
        void nodrop.waitForResult(id, { token, onUpdate: ({ status }) => { seen[id] = status; } })
          .then(({ orderUpdate }) => { results[id] = orderUpdate; });
    })()`);
    const seen = () => page.evaluate('Object.keys(seen).length');
    await eventually(async () => (await seen()) === PAGES && streams() === MAX_OPEN);
    for (const { id, clientToken } of made) {
      await system.simulator.pay(id);
      await page.evaluate(`hint('${id}', '${clientToken}')`);
      await eventually(async () => (await page.evaluate(`results['${id}']`)) === 'applied');
    }
  });
});
