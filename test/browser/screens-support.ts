import type { Browser } from 'playwright-core';
import { afterAll, beforeAll, expect } from 'vitest';
import { newKey, startTestApi, type TestApi } from '../api/support.ts';
import { useDatabase } from '../support/stack.ts';
import { CHROMIUM, DESKTOP, launch, openTab, PHONE } from './support.ts';

/**
 * Support for the tests of the cashier page's screens. The page and the API are real, and the tests write the state of
 * each payment into the API's answers.
 */

const { databaseUrl } = useDatabase();
export let api: TestApi;
export let browser: Browser;
export let key: string;

beforeAll(async () => {
  if (CHROMIUM === undefined) return;
  api = await startTestApi(databaseUrl);
  ({ key } = await newKey(api.db));
  browser = await launch();
});
afterAll(async () => {
  await browser?.close();
  await api?.close();
});

export const PAST = new Date(Date.now() - 60_000).toISOString();
export const paid = {
  ...{ status: 'succeeded', orderUpdate: 'applied', nextAction: null, payUrl: null },
  receivedAmount: 1050,
};

export const LOOKS = [
  { ...PHONE, locale: 'en-GB', colorScheme: 'light' },
  { ...DESKTOP, locale: 'zh-CN', colorScheme: 'dark' },
] as const;

export async function openWith(look: (typeof LOOKS)[number]) {
  const tab = await openTab(browser, [api.url], { ...look, bypassCSP: true });
  const close = async () => {
    expect(tab.complaints).toEqual([]);
    await tab.page.unrouteAll({ behavior: 'ignoreErrors' });
    await tab.context.close();
  };
  return { ...tab, close };
}
