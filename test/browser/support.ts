import { existsSync, mkdirSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import {
  type Browser,
  type BrowserContext,
  type BrowserContextOptions,
  chromium,
  type Page,
} from 'playwright-core';
import { expect } from 'vitest';

/** The system's Chromium. On a machine without it, the browser tests are skipped. */
export const CHROMIUM = ['/usr/bin/chromium', '/usr/bin/chromium-browser', '/usr/bin/google-chrome'].find(
  existsSync,
);

export const PHONE = { viewport: { width: 390, height: 844 }, isMobile: true, hasTouch: true };
export const DESKTOP = { viewport: { width: 1280, height: 800 } };

/** Each browser that is launched has its own empty profile. */
export async function launch(): Promise<Browser> {
  return await chromium.launch({
    ...(CHROMIUM === undefined ? {} : { executablePath: CHROMIUM }),
    args: ['--no-sandbox', '--disable-gpu', '--disable-background-networking', '--disable-component-update'],
  });
}

export interface Tab {
  readonly context: BrowserContext;
  readonly page: Page;
  /**
   * The problems that the browser reports: errors of scripts, violations of the policy, and requests to hosts outside
   * `allowed`.
   */
  readonly complaints: string[];
}

/** A tab with its own browser context. It shares nothing with other tabs. */
export async function openTab(
  browser: Browser,
  allowed: readonly string[],
  options: BrowserContextOptions = PHONE,
): Promise<Tab> {
  const context = await browser.newContext({ locale: 'en-GB', ...options });
  return { context, ...(await anotherPage(context, allowed)) };
}

export async function anotherPage(context: BrowserContext, allowed: readonly string[]) {
  const page = await context.newPage();
  page.setDefaultTimeout(60_000);
  const complaints: string[] = [];
  page.on('pageerror', ({ message }) => complaints.push(message));
  page.on('console', (message) => {
    if (/Content Security Policy|Refused to/i.test(message.text())) complaints.push(message.text());
  });
  page.on('request', (request) => {
    const url = request.url();
    if (![...allowed, 'data:'].some((start) => url.startsWith(start))) complaints.push(`asks ${url}`);
  });
  return { page, complaints };
}

/** Waits until the cashier page shows this screen. */
export async function shows(page: Page, screen: string): Promise<void> {
  await page.locator(`body[data-screen="${screen}"]`).waitFor({ state: 'attached' });
}

/** Saves a screenshot that people can look at: `SHOTS=folder npm test -- test/browser/screens`. */
export async function keep(page: Page, name: string): Promise<void> {
  if (process.env.SHOTS === undefined) return;
  mkdirSync(process.env.SHOTS, { recursive: true });
  const path = join(process.env.SHOTS, `${name.replace(/\W+/g, '-')}.png`);
  await page.screenshot({ path, fullPage: true });
}

const AXE = createRequire(import.meta.url).resolve('axe-core/axe.min.js');

/** Expects that axe-core finds no violations on the present page. The page's context must bypass the policy. */
export async function expectAccessible(page: Page): Promise<void> {
  await page.addScriptTag({ path: AXE });
  const violations = await page.evaluate(async () => {
    // biome-ignore lint/suspicious/noExplicitAny: axe-core is a global.
    const { violations } = await (globalThis as any).axe.run();
    // biome-ignore lint/suspicious/noExplicitAny: the format of axe-core.
    return violations.map(({ id, impact, nodes }: any) => `${impact} ${id}: ${nodes[0]?.html}`);
  });
  expect(violations).toEqual([]);
}
