// Tests the docs site in a browser. The site is built as `npm run docs` builds it.
import { spawnSync } from 'node:child_process';
import {
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { dirname, extname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { Browser } from 'playwright-core';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { CHROMIUM, expectAccessible, launch, openTab } from './support.ts';

const root = fileURLToPath(new URL('../..', import.meta.url));
const folder = mkdtempSync(join(tmpdir(), 'nodrop-docs-'));
// The built pages import Vue, so they need node_modules.
symlinkSync(join(root, 'node_modules'), join(folder, 'node_modules'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

/**
 * Builds the docs site of a repository. The build runs in its own process, because VitePress reads the environment.
 */
function build(repository: string, name: string) {
  const work = join(folder, name);
  const code = `import { buildSite } from './scripts/docs-site/build.ts';
await buildSite(${JSON.stringify(repository)}, ${JSON.stringify(work)});`;
  const { NODE_ENV: _, ...env } = process.env;
  const args = ['--import', 'tsx', '--input-type=module', '-e', code];
  const { status, stderr } = spawnSync(process.execPath, args, { cwd: root, env, encoding: 'utf8' });
  return { status, stderr, site: join(work, 'site') };
}

const TYPES: Readonly<Record<string, string>> = {
  '.html': 'text/html',
  '.js': 'text/javascript',
  '.css': 'text/css',
};

describe('the documentation site of this repository', () => {
  let site: string;
  let server: Server;
  let url: string;
  let browser: Browser;

  beforeAll(async () => {
    const built = build(root, 'whole');
    expect(built.status, built.stderr).toBe(0);
    site = built.site;
    server = createServer(({ url: path = '/' }, response) => {
      try {
        const name = decodeURIComponent(new URL(path, 'http://site').pathname).replace(/\/$/, '/index.html');
        const content = readFileSync(join(site, name));
        response.writeHead(200, { 'content-type': TYPES[extname(name)] ?? 'application/octet-stream' });
        response.end(content);
      } catch {
        response.writeHead(404).end();
      }
    });
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
    if (CHROMIUM !== undefined) browser = await launch();
  });
  afterAll(async () => {
    await browser?.close();
    server?.close();
  });

  test('has a page for every Markdown file in docs and for every operation of the API', () => {
    const pages = readdirSync(join(root, 'docs'), { recursive: true, encoding: 'utf8' })
      .filter((name) => name.endsWith('.md'))
      .map((name) => name.replace(/(^|\/)README\.md$/, '$1index.md').replace(/\.md$/, '.html'));
    const built = readdirSync(site, { recursive: true, encoding: 'utf8' });
    expect(pages.filter((name) => !built.includes(name))).toEqual([]);
    const reference = built
      .filter((name) => /^api\/.*\.html$/.test(name))
      .map((name) => readFileSync(join(site, name), 'utf8'))
      .join('');
    const { paths } = JSON.parse(readFileSync(join(root, 'docs/openapi.json'), 'utf8'));
    const calls = Object.values<Record<string, { operationId: string }>>(paths).flatMap((methods) =>
      Object.values(methods).map(({ operationId }) => operationId),
    );
    expect(calls.length).toBeGreaterThan(20);
    expect(calls.filter((call) => !reference.includes(` id="${call}"`))).toEqual([]);
  });

  test.skipIf(CHROMIUM === undefined)(
    'the search finds an operation, and sends no request to another host',
    async () => {
      const { context, page, complaints } = await openTab(browser, [url], {
        viewport: { width: 1280, height: 800 },
      });
      await page.goto(`${url}/`);
      await page.getByRole('button', { name: 'Search' }).click();
      await page.getByRole('searchbox').fill('channel_misconfigured');
      await page.locator('.results a', { hasText: 'Start a payment' }).first().click();
      await page.waitForURL('**/api/payments.html#createPayment');
      expect(complaints).toEqual([]);
      await context.close();
    },
  );

  test.skipIf(CHROMIUM === undefined)(
    'every page declares its own language, also after navigation',
    async () => {
      const { context, page } = await openTab(browser, [url], { viewport: { width: 1280, height: 800 } });
      const language = () => page.locator('html').getAttribute('lang');
      expect(readFileSync(join(site, 'channels/alipay.zh.html'), 'utf8')).toContain('<html lang="zh-CN"');
      await page.goto(`${url}/channels/mollie.html`);
      for (const [link, expected] of [
        ['alipay.zh', 'zh-CN'],
        ['stripe', 'en'],
        ['wechatpay.zh', 'zh-CN'],
      ] as const) {
        await page.locator(`.VPSidebar a[href="/channels/${link}.html"]`).click();
        await page.waitForURL(`**/channels/${link}.html`);
        await expect.poll(language).toBe(expected);
      }
      await page.reload({ waitUntil: 'networkidle' });
      expect(await language()).toBe('zh-CN');
      await context.close();
    },
  );

  const READ = [
    '/',
    '/order-service.html',
    '/api/payments.html',
    '/api/types.html',
    '/quickstarts/java.html',
  ];

  test.skipIf(CHROMIUM === undefined).each(['light', 'dark'] as const)(
    'in %s mode its pages fit a phone of 360 px and are accessible',
    async (colorScheme) => {
      const { context, page, complaints } = await openTab(browser, [url], {
        viewport: { width: 360, height: 780 },
        colorScheme,
      });
      for (const path of READ) {
        await page.goto(`${url}${path}`, { waitUntil: 'networkidle' });
        const width = await page.evaluate('document.documentElement.scrollWidth');
        expect(width, path).toBeLessThanOrEqual(360);
        await expectAccessible(page);
      }
      expect(complaints).toEqual([]);
      await context.close();
    },
  );
});

describe('a dead link fails the build', () => {
  const write = (files: Readonly<Record<string, string>>, name: string) => {
    const repository = join(folder, name);
    for (const [path, text] of Object.entries(files)) {
      mkdirSync(dirname(join(repository, path)), { recursive: true });
      writeFileSync(join(repository, path), text);
    }
    return repository;
  };
  const openApi = {
    info: { description: '' },
    tags: [],
    paths: {},
    webhooks: {},
    components: { schemas: { Problem: { type: 'object', properties: {} } }, securitySchemes: {} },
  };
  const files = {
    'README.md': '# About\n',
    'docs/README.md': '# Home\n\n[operations](operations.md#watch), [the code](../src/main.ts)\n',
    'docs/operations.md': '# Operations\n\n## Watch\n',
    'docs/generated-clients.md': '# Clients\n',
    'docs/order-service.md': '# Order service\n',
    'docs/quickstarts/README.md': '# Quickstarts\n',
    'docs/events/a.json': '{}\n',
    'docs/openapi.json': JSON.stringify(openApi),
    'src/main.ts': 'console.log(1);\n',
  };

  test('if it names a file or a heading that does not exist', () => {
    const whole = build(write(files, 'whole-links'), 'whole-links-site');
    expect(whole.status, whole.stderr).toBe(0);
    const noFile = build(
      write({ ...files, 'docs/operations.md': '# Operations\n\n## Watch\n\n[gone](gone.md)' }, 'no-file'),
      'no-file-site',
    );
    expect([noFile.status, noFile.stderr]).toEqual([
      1,
      expect.stringContaining('docs/operations.md: gone.md'),
    ]);
    const noPlace = build(
      write({ ...files, 'docs/operations.md': '# Operations\n\n## Look\n' }, 'no-place'),
      'no-place-site',
    );
    expect([noPlace.status, noPlace.stderr]).toEqual([
      1,
      expect.stringContaining('index.html: /operations.html#watch'),
    ]);
  });
});
