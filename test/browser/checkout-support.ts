import type { Browser, BrowserContextOptions, Page } from 'playwright-core';
import { afterAll, beforeAll, expect } from 'vitest';
import { eventually } from '../support/stack.ts';
import { type Answer, type System, startSystem } from '../support/system.ts';
import { CHROMIUM, launch, openTab, PHONE, type Tab } from './support.ts';

/**
 * Support for the tests of payers at the cashier page. A browser uses the whole real system. Every callback is lost
 * and no query is scheduled, so only the page's hints can detect that a payment is paid.
 */

export let system: System;
export let browser: Browser;

beforeAll(async () => {
  if (CHROMIUM === undefined) return;
  [system, browser] = await Promise.all([
    startSystem({ withWorker: true, env: { NODROP_QUERY_SCHEDULE: '1h' } }),
    launch(),
  ]);
  await system.simulator.setFaults({ callback: { dropRate: 1 } });
  // A worker that has just started may need longer to create a payment than the API waits for the result.
  await eventually(async () => (await system.pay({})).status === 201);
});
afterAll(async () => {
  await browser?.close();
  await system?.stop();
});

export async function pay(changes: object = {}): Promise<Answer['body']> {
  const { status, body } = await system.pay(changes);
  expect(status).toBe(201);
  return body;
}

export const addressOf = ({ id, clientToken }: Answer['body'], query = '') =>
  `${system.apiUrl}/checkout/${id}?token=${clientToken}${query}`;

export const allowed = () => [system.apiUrl, system.config.simulator.url];

export interface Cashier extends Tab {
  /** Every screen that the page has shown in this test, over all its loads. */
  readonly screens: string[];
}

export async function openCashier(
  made: Answer['body'],
  options: BrowserContextOptions = PHONE,
): Promise<Cashier> {
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
export const payLink = (page: Page) => page.getByRole('link', { name: /^Pay / });
export const settledBy = async (id: string) =>
  (await system.db.payment.findUniqueOrThrow({ where: { id } })).settledBy;
