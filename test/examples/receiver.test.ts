// Tests the receiver that users copy. It runs as users run it, on the tables of its schema.sql.
import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { emptyDatabase, eventually, type FreshDatabase, queryOnce } from '../support/stack.ts';
import { receiverContract } from './receiver-contract.ts';
import { type Example, eventOf, newId, newSecret, send, startReceiver } from './support.ts';

const file = (name: string) =>
  readFileSync(new URL(`../../examples/receiver/${name}`, import.meta.url), 'utf8');

describe('the contract of every receiver', () => receiverContract());

const secret = newSecret();
let database: FreshDatabase;
let receiver: { url: string; process: Example };

beforeAll(async () => {
  database = await emptyDatabase();
  await queryOnce(database.url, file('schema.sql'));
  receiver = await startReceiver(database, secret, 'http://127.0.0.1:1');
});

afterAll(async () => {
  await receiver?.process.stop();
  await database?.drop();
});

test('the receiver has fewer than 60 lines and uses three libraries', () => {
  const source = file('receiver.js');
  expect(source.trimEnd().split('\n').length).toBeLessThan(60);
  // The receiver imports only the three libraries and its own settings.
  expect([...source.matchAll(/from '(.*)'/g)].map(([, name]) => name)).toEqual([
    'express',
    'pg',
    'standardwebhooks',
    './settings.js',
  ]);
  const { type, dependencies } = JSON.parse(file('package.json'));
  const { dependencies: ours } = JSON.parse(
    readFileSync(new URL('../../package.json', import.meta.url), 'utf8'),
  );
  expect({ type, dependencies }).toEqual({
    type: 'module',
    dependencies: { express: ours.express, pg: ours.pg, standardwebhooks: ours.standardwebhooks },
  });
});

test('every answer without a 2xx status is logged with its reason', async () => {
  const logged = (line: RegExp) => eventually(async () => line.test(receiver.process.output));
  const id = newId('evt');
  await send(receiver.url, secret, eventOf('payment.succeeded', newId('order')), { id });
  await logged(new RegExp(`^POST /nodrop/events ${id} 404 order_unknown$`, 'm'));
  await send(receiver.url, newSecret(), eventOf('payment.succeeded', newId('order')), { id });
  await logged(new RegExp(`^POST /nodrop/events ${id} 401 No matching signature found$`, 'm'));
  await fetch(`${receiver.url}/nodrop`, { method: 'POST' });
  await logged(/^POST \/nodrop undefined 404 Not Found$/m);
});

const good = {
  DATABASE_URL: 'postgresql://shop@127.0.0.1:1/shop',
  NODROP_WEBHOOK_SECRET: newSecret(),
  NODROP_URL: 'http://127.0.0.1:3000',
  NODROP_KEY: 'sk_x',
};

test.each([
  ['NODROP_WEBHOOK_SECRET', '', /^NODROP_WEBHOOK_SECRET is missing: set it to the secret [^\n]+\.\n$/],
  [
    'NODROP_WEBHOOK_SECRET',
    'whsec_...',
    /^NODROP_WEBHOOK_SECRET is wrong: it must be the secret [^\n]+\.\n$/,
  ],
  ['DATABASE_URL', '', /^DATABASE_URL is missing: set it to [^\n]+postgresql:[^\n]+\.\n$/],
  ['DATABASE_URL', 'shop', /^DATABASE_URL is wrong: [^\n]+\.\n$/],
  ['NODROP_URL', '', /^NODROP_URL is missing: [^\n]+\.\n$/],
  ['NODROP_KEY', '', /^NODROP_KEY is missing: [^\n]+keys create[^\n]+\.\n$/],
])(
  'with the setting %s=%j, the receiver ends and prints only one sentence',
  async (name, value, sentence) => {
    // Like users, this test runs the receiver without a TypeScript loader.
    const { status, stderr, stdout } = spawnSync(process.execPath, ['receiver.js'], {
      cwd: new URL('../../examples/receiver/', import.meta.url),
      env: { PATH: process.env.PATH, ...good, [name]: value },
      encoding: 'utf8',
    });
    expect([status, stdout]).toEqual([1, '']);
    expect(stderr).toMatch(sentence);
  },
);

test('if the port of the receiver is in use, the receiver prints one sentence and ends', async () => {
  const { port } = new URL(receiver.url);
  const { status, stderr } = spawnSync(process.execPath, ['receiver.js'], {
    cwd: new URL('../../examples/receiver/', import.meta.url),
    env: { PATH: process.env.PATH, ...good, PORT: port },
    encoding: 'utf8',
  });
  expect([status, stderr]).toEqual([
    1,
    `The receiver cannot listen at 127.0.0.1:${port} (EADDRINUSE): set PORT to a free one.\n`,
  ]);
});

test('if HOST is not an address of this machine, the receiver prints one sentence and ends', () => {
  const { status, stderr } = spawnSync(process.execPath, ['receiver.js'], {
    cwd: new URL('../../examples/receiver/', import.meta.url),
    env: { PATH: process.env.PATH, ...good, HOST: '192.0.2.1', PORT: '3200' },
    encoding: 'utf8',
  });
  expect([status, stderr]).toEqual([
    1,
    'The receiver cannot listen at 192.0.2.1:3200 (EADDRNOTAVAIL): set HOST to an address of this machine.\n',
  ]);
});

test.each<[string[], RegExp]>([
  [['constructor'], /^Use: node orders\.js init \| add ID AMOUNT CURRENCY \| show ID\n$/],
  [['add', 'asked', '19.90', 'CNY'], /^AMOUNT must be a whole number of minor units: [^\n]+ "19\.90"\.\n$/],
  [['add', 'asked', '-1', 'CNY'], /^AMOUNT must be /],
  [['add', 'asked', '1990', 'cny'], /^CURRENCY must be [^\n]+capitals[^\n]+\n$/],
  [['add', '', '1990', 'CNY'], /^The ID of an order must not be empty\.\n$/],
  [['show', 'asked'], /^There is no order asked: [^\n]+add[^\n]+\n$/],
])('the command orders.js %j is refused with one sentence, and creates no order', (args, sentence) => {
  const { status, stderr, stdout } = spawnSync(process.execPath, ['orders.js', ...args], {
    cwd: new URL('../../examples/receiver/', import.meta.url),
    env: { PATH: process.env.PATH, DATABASE_URL: database.url },
    encoding: 'utf8',
  });
  expect([status, stdout]).toEqual([1, '']);
  expect(stderr).toMatch(sentence);
});
