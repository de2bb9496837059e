// Tests docs/first-integration.md and docs/order-service.md: types their commands unchanged into a shell, with a real
// npm start.
import { once } from 'node:events';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { EVENT_TYPES } from '../../src/domain/event.ts';
import { eventually } from '../support/stack.ts';
import { Desk, type Shell } from './desk.ts';

let desk: Desk;
let shell: Shell;

beforeAll(async () => {
  desk = await Desk.open('first-integration.md');
  shell = desk.shell;
});

afterAll(async () => {
  await desk?.close();
});

test('docs/first-integration.md leads from npm start to an order that the receiver on the page has marked as paid', async () => {
  const [, merchant, database, receiver, testEvents, order, pay, wallet, paid, ...more] = desk.blocksOf(
    'first-integration.md',
  ) as [string, ...string[]];
  expect(more).toEqual([]);
  const typed = async (block: string | undefined) => {
    const { code, output } = await shell.type(block ?? '');
    expect(code, output).toBe(0);
    return output;
  };
  await typed(merchant);
  expect(await typed('echo "$KEY $SECRET"')).toMatch(/^sk_[\w-]{43} whsec_[A-Za-z0-9+/]{43}=$/m);
  expect(await typed(database)).toBe('The database my_shop has its tables.\n');
  await desk.terminal(receiver ?? '', 'The receiver accepts events at');
  const table = await typed(testEvents);
  for (const type of EVENT_TYPES)
    expect(table).toMatch(new RegExp(`^${type.replace('.', '\\.')} +200 `, 'm'));
  expect(JSON.parse(await typed(order))).toMatchObject({
    id: 'order-1',
    amount: '1990',
    paid_payment_id: null,
  });
  await eventually(async () => JSON.parse(await typed(pay)).payUrl !== null);
  await typed(wallet);
  // The command waits at most 30 s for a change, so it is repeated until the order is paid.
  const output = await eventually(async () => {
    const text = await typed(paid);
    return text.includes('"orderUpdate":"applied"') && text;
  });
  const id = (await typed('echo "$PAYMENT_ID"')).trim();
  expect(output).toContain(`"paid_payment_id":"${id}"`);
});

test('a block of commands fails if one of its commands fails', async () => {
  expect(await shell.type('(exit 3)\necho on')).toEqual({ code: 3, output: 'on\n' });
  expect(await shell.type('echo on')).toEqual({ code: 0, output: 'on\n' });
});

test('every command of docs/order-service.md works with npm start, and leaves the merchant demo unchanged', async () => {
  const merchants = async () => (await shell.type('npm run --silent nodrop -- merchants list')).output;
  const asItWas = /^mer_\w+ +demo +apply +simulator, simulator2 +embedded /m;
  expect(await merchants()).toMatch(asItWas);
  // This server replaces the order service that the page describes.
  const server = createServer((request, response) => {
    request.resume().on('end', () => response.end('noted'));
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  try {
    const blocks = desk.blocksOf('order-service.md', { ...desk.ports, 3200: String(port) });
    expect(blocks.length).toBeGreaterThan(4);
    let testEvents = '';
    for (const block of blocks) {
      const { code, output } = await shell.type(block);
      expect(code, `${block}\n${output}`).toBe(0);
      // If curl shows an error answer, its output contains a 4xx status.
      expect(output, block).not.toContain('"status":4');
      if (block.includes(' test-event ')) testEvents = output;
    }
    for (const type of EVENT_TYPES)
      expect(testEvents).toMatch(new RegExp(`^${type.replace('.', '\\.')} +200 .*noted`, 'm'));
  } finally {
    server.closeAllConnections();
    server.close();
  }
  // This page must not change the merchant, because the other pages use it.
  expect(await merchants()).toMatch(asItWas);
});
