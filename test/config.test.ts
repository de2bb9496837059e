import { spawn } from 'node:child_process';
import { existsSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { fileURLToPath } from 'node:url';
import express from 'express';
import { afterAll, describe, expect, test } from 'vitest';
import { parse } from 'yaml';
import { createChannels } from '../src/channels/registry.ts';
import { ConfigError, loadConfig, loadSimulatorConfig } from '../src/config.ts';
import { loadStackConfig, makeEmbeddedSecrets } from '../src/stack/embedded-secrets.ts';
import { tsxLoader } from '../src/tsx.ts';
import { temporaryHome } from './support/stack.ts';

// Tests how settings are loaded. A wrong setting gives one sentence that names the setting.

const homes: string[] = [];
const newHome = () => {
  const folder = temporaryHome();
  homes.push(folder);
  return folder;
};
afterAll(() => {
  for (const folder of homes) rmSync(folder, { recursive: true, force: true });
});
const home = newHome();
makeEmbeddedSecrets(home);

const WHSEC = `whsec_${Buffer.alloc(32, 7).toString('base64')}`;
const load = (env: Record<string, string>) => loadConfig({ NODROP_HOME: home, ...env });
const OWN = {
  DATABASE_URL: 'postgresql://nodrop@db/nodrop',
  TEMPORAL_ADDRESS: 'temporal:7233',
  NODROP_SECRET: 's'.repeat(32),
};

test('the setting PUBLISH_API_PORT of docker-compose.yml can be 3001', () => {
  const text = readFileSync(new URL('../docker-compose.yml', import.meta.url), 'utf8')
    .replace(/\$\{PUBLISH_API_PORT:[^}]*\}/g, '3001')
    .replace(/\$\{NODROP_MODE:[^}]*\}/, 'test')
    .replace(/\$\{NODROP_SECRET:[^}]*\}/, 's'.repeat(32))
    .replace(/\$\{\w+:-([^}]*)\}/g, '$1')
    .replace(/\$\{\w+:\?[^}]*\}/g, 'given');
  const { services } = parse(text, { merge: true });
  for (const name of ['migrate', 'api', 'worker']) {
    const given = Object.entries(services[name].environment);
    const config = loadConfig(Object.fromEntries(given.map(([key, value]) => [key, String(value ?? '')])));
    expect([config.api.port, config.admin.port]).toEqual([3001, 9464]);
  }
});

test.each<[Record<string, string>, string]>([
  ...['0', '65536', '1e3', '0x50', ' 80', '80.0', '-1', 'x'].map((PORT): [Record<string, string>, string] => [
    { PORT },
    'PORT is wrong: must be a port from 1 to 65535.',
  ]),
  [{ NODROP_TEMPORAL_PORT: '0' }, 'NODROP_TEMPORAL_PORT is wrong: must be a port from 1 to 65535.'],
  [{ NODROP_PUBLIC_URL: 'pay.example' }, 'NODROP_PUBLIC_URL is wrong: must be an http or https URL.'],
  [{ NODROP_PUBLIC_URL: 'https://pay.example/?a=1' }, 'NODROP_PUBLIC_URL is wrong: must have no ? and no #.'],
  [{ NODROP_PUBLIC_URL: 'https://pay.example/#a' }, 'NODROP_PUBLIC_URL is wrong: must have no ? and no #.'],
  [
    { PORT: '3001' },
    'NODROP_ADMIN_PORT is wrong: 3001 is also the value of PORT, and the admin listener needs its own port.',
  ],
  [
    {
      ...OWN,
      NODROP_MODE: 'live',
      NODROP_HOST: '0.0.0.0',
      NODROP_TEST_PUBLIC_URL: 'http://nodrop.localhost:3000',
    },
    'NODROP_PUBLIC_URL is missing: NODROP_HOST=0.0.0.0 is not an address that channels and payers can reach.',
  ],
  ...['0.0.0.0', '::'].map((NODROP_HOST): [Record<string, string>, string] => [
    { NODROP_HOST },
    `NODROP_PUBLIC_URL is missing: NODROP_HOST=${NODROP_HOST} is not an address that channels and payers can reach.`,
  ]),
  [
    { NODROP_LOGLEVEL: 'debug' },
    'NODROP_LOGLEVEL is not a setting: docs/configuration.md lists all settings.',
  ],
  [
    { NODROP_QUERY_SCHEDULES: '1s' },
    'NODROP_QUERY_SCHEDULES is not a setting: docs/configuration.md lists all settings.',
  ],
  [
    { NODROP_MODE: 'live' },
    'DATABASE_URL is missing: NODROP_MODE=live does not run on the embedded database.',
  ],
  [
    { ...OWN, NODROP_MODE: 'live', TEMPORAL_ADDRESS: '' },
    'TEMPORAL_ADDRESS is missing: NODROP_MODE=live does not run on the embedded Temporal server.',
  ],
  ...['1', 'yes', 'TRUE'].map((NODROP_ALLOW_PRIVATE_ORDER_SERVICES): [Record<string, string>, string] => [
    { NODROP_ALLOW_PRIVATE_ORDER_SERVICES },
    'NODROP_ALLOW_PRIVATE_ORDER_SERVICES is wrong: must be true or false.',
  ]),
  ...[
    'true',
    '1',
    'nginx',
    '10.0.0.0/33',
    '0.0.0.0/0',
    '::/129',
    '10.0.0',
    '10.0.0.1,,10.0.0.2',
    '10.0.0.0/255.0.0.0',
  ].map((NODROP_TRUSTED_PROXIES): [Record<string, string>, string] => [
    { NODROP_TRUSTED_PROXIES },
    'NODROP_TRUSTED_PROXIES is wrong: must be IP addresses, ranges such as 10.0.0.0/8, loopback, linklocal or uniquelocal, separated by commas.',
  ]),
  ...['NODROP_SIMULATOR_SECRET', 'NODROP_SIMULATOR2_SECRET'].map((name): [Record<string, string>, string] => [
    { ...OWN, NODROP_MODE: 'live', [name]: WHSEC },
    `${name} is set: NODROP_MODE=live refuses the simulator.`,
  ]),
])('the settings %j are refused with the message: %s', (env, sentence) => {
  expect(() => load(env)).toThrow(new ConfigError(sentence));
});

describe('the configuration', () => {
  test('variables of other tools that begin with NODROP_ are accepted, and so are settings of other programs', () => {
    const others = { NODROP_DB_PASSWORD: 'x', NODROP_RECORD_HISTORIES: '1', NODROPPED: '1', OTHER: '1' };
    const config = load({ ...others, NODROP_QUERY_SCHEDULE_SIMULATOR2: '7s', PORT: '' });
    expect(config.querySchedule({ name: 'simulator2', querySchedule: null }).waitsMs[0]).toBe(7_000);
    expect(config.api.port).toBe(3000);
  });

  test("the query schedule of a channel comes from the channel's own setting, otherwise from the channel's advice, otherwise from the common setting", () => {
    const config = load({ NODROP_QUERY_SCHEDULE_SLOWPAY: '7s', NODROP_QUERY_SCHEDULE: '9s' });
    const querySchedule = { waitsMs: [5_000], source: 'its guide to queries' };
    expect(config.querySchedule({ name: 'slowpay', querySchedule })).toEqual({
      waitsMs: [7_000],
      source: 'NODROP_QUERY_SCHEDULE_SLOWPAY',
    });
    expect(config.querySchedule({ name: 'otherpay', querySchedule })).toBe(querySchedule);
    expect(config.querySchedule({ name: 'otherpay', querySchedule: null })).toEqual({
      waitsMs: [9_000],
      source: 'NODROP_QUERY_SCHEDULE',
    });
  });

  test('the host can be any address if the public URL is set', () => {
    const { api } = load({ NODROP_HOST: '::', NODROP_PUBLIC_URL: 'https://pay.example/' });
    expect(api).toEqual({ host: '::', port: 3000, publicUrl: 'https://pay.example', trustedProxies: [] });
  });

  test('trusted proxies are accepted in the format of Express', () => {
    const { api } = load({ NODROP_TRUSTED_PROXIES: 'loopback, 10.0.0.0/8,192.0.2.7,2001:db8::/32, ::1' });
    expect(api.trustedProxies).toEqual(['loopback', '10.0.0.0/8', '192.0.2.7', '2001:db8::/32', '::1']);
    express().set('trust proxy', api.trustedProxies);
    expect(load({}).api.trustedProxies).toEqual([]);
  });

  test('NODROP_TEST_PUBLIC_URL is used in test mode if NODROP_PUBLIC_URL is not set', () => {
    const compose = { NODROP_HOST: '0.0.0.0', NODROP_TEST_PUBLIC_URL: 'http://nodrop.localhost:8080' };
    expect(load(compose).api.publicUrl).toBe('http://nodrop.localhost:8080');
    const named = { ...compose, NODROP_PUBLIC_URL: 'https://pay.example' };
    expect(load(named).api.publicUrl).toBe('https://pay.example');
    expect(load({ ...OWN, ...named, NODROP_MODE: 'live' }).api.publicUrl).toBe('https://pay.example');
  });

  test('an IPv6 host is accepted, and URLs contain it in brackets', () => {
    expect(load({ NODROP_HOST: '::1' }).api.publicUrl).toBe('http://[::1]:3000');
    expect(load({ NODROP_SIMULATOR_HOST: '::1' }).simulator.url).toBe('http://[::1]:4000');
  });

  test('order services in private networks are accepted if the database is embedded or if a setting allows them', () => {
    const allow = (value: string) => ({ NODROP_ALLOW_PRIVATE_ORDER_SERVICES: value });
    const live = { ...OWN, NODROP_MODE: 'live' };
    const of = (env: Record<string, string>) => load(env).orderServices;
    expect(of({})).toEqual({ allowPrivate: true, httpsOnly: false });
    expect(of(allow(''))).toEqual({ allowPrivate: true, httpsOnly: false });
    expect(of(allow('false'))).toEqual({ allowPrivate: false, httpsOnly: false });
    expect(of(OWN)).toEqual({ allowPrivate: false, httpsOnly: false });
    expect(of({ ...OWN, ...allow('true') })).toEqual({ allowPrivate: true, httpsOnly: false });
    expect(of(live)).toEqual({ allowPrivate: false, httpsOnly: true });
    expect(of({ ...live, ...allow('true') })).toEqual({ allowPrivate: true, httpsOnly: true });
  });

  test('the period of retries for an unknown order can be 1 to 720 h, and is 24 h by default', () => {
    const hours = (count: string) =>
      load({ NODROP_ORDER_UNKNOWN_HOURS: count }).orderUnknownForMs / 3_600_000;
    expect([load({}).orderUnknownForMs / 3_600_000, hours('1'), hours('720')]).toEqual([24, 1, 720]);
    for (const count of ['0', '721', '1.5', 'x'])
      expect(() => hours(count)).toThrow('NODROP_ORDER_UNKNOWN_HOURS is wrong');
  });

  test('a payment expiry of 5 s is accepted in test mode only', () => {
    const expiry = (seconds: string) => ({ NODROP_PAYMENT_EXPIRY_SECONDS: seconds });
    expect(load(expiry('5')).paymentExpiryMs).toBe(5_000);
    expect(load({ ...OWN, NODROP_MODE: 'live', ...expiry('60') }).paymentExpiryMs).toBe(60_000);
    expect(() => load(expiry('4'))).toThrow('NODROP_PAYMENT_EXPIRY_SECONDS is wrong');
    expect(() => load({ ...OWN, NODROP_MODE: 'live', ...expiry('59') })).toThrow(
      'NODROP_PAYMENT_EXPIRY_SECONDS is wrong: NODROP_MODE=live requires 60 or more.',
    );
  });

  test('live mode is accepted if the database and Temporal are external', () => {
    expect(load({ ...OWN, NODROP_MODE: 'live' })).toMatchObject({ mode: 'live', embeddedTemporal: false });
  });
});

test('in live mode, no channel is simulated', () => {
  const { simulator } = load({});
  const source = { of: async () => [] };
  const nameOf = (mode: 'test' | 'live') => [
    ...createChannels({ mode, simulator, stripe: {} }, source).keys(),
  ];
  expect(nameOf('test')).toEqual(expect.arrayContaining(['simulator', 'simulator2']));
  expect(nameOf('live').filter((name) => name.startsWith('simulator'))).toEqual([]);
});

test('a server that replaces Stripe or Mollie must run on this machine, and is refused in live mode', () => {
  expect(load({}).stripe).toEqual({});
  expect(
    load({
      NODROP_STRIPE_URL: 'http://127.0.0.1:4100/',
      NODROP_STRIPE_SCRIPT_URL: 'http://[::1]:4100/stripe.js',
    }).stripe,
  ).toEqual({ url: 'http://127.0.0.1:4100', scriptUrl: 'http://[::1]:4100/stripe.js' });
  expect(load({}).mollie).toEqual({});
  expect(load({ NODROP_MOLLIE_URL: 'http://localhost:4200/' }).mollie).toEqual({
    url: 'http://localhost:4200',
  });
  const elsewhere = ['http://127.0.0.1.example:80', 'http://localhost@stripe.example', 'http://10.0.0.1'];
  for (const [name, channel] of [
    ['NODROP_STRIPE_URL', 'Stripe'],
    ['NODROP_STRIPE_SCRIPT_URL', 'Stripe'],
    ['NODROP_MOLLIE_URL', 'Mollie'],
  ] as const) {
    for (const url of elsewhere) {
      expect(() => load({ [name]: url })).toThrow(
        new ConfigError(`${name} is wrong: must be on this machine: localhost, 127.0.0.1 or [::1].`),
      );
    }
    expect(() => load({ ...OWN, NODROP_MODE: 'live', [name]: 'http://localhost' })).toThrow(
      new ConfigError(`${name} is set: NODROP_MODE=live refuses every stand-in for ${channel}.`),
    );
  }
  expect(() => load({ NODROP_STRIPE_URL: 'http://localhost/v1' })).toThrow('must have no path');
});

describe('the embedded stack’s secrets', () => {
  const nothingYet = (folder: string) =>
    new ConfigError(
      `NODROP_HOME=${folder} has no secrets yet: start the stack (npm run stack or npm start), which creates them, or set DATABASE_URL to your own database.`,
    );

  test('loading the configuration creates no secrets, and writes no other file', () => {
    const folder = newHome();
    const missing = join(folder, 'missing');
    expect(() => load({ NODROP_HOME: folder })).toThrow(nothingYet(folder));
    expect(() => load({ NODROP_HOME: missing })).toThrow(nothingYet(missing));
    // A setting with one secret is not enough, because a channel without its secret would silently be off.
    expect(() => load({ NODROP_HOME: folder, NODROP_SECRET: 's'.repeat(32) })).toThrow(nothingYet(folder));
    load({ ...OWN, NODROP_HOME: folder });
    expect(readdirSync(folder)).toEqual([]);
  });

  test('if the secrets exist, loading the configuration reads them', () => {
    const folder = newHome();
    makeEmbeddedSecrets(folder);
    const made = readFileSync(join(folder, 'secrets.json'), 'utf8');
    const { secret, simulator } = load({ NODROP_HOME: folder });
    expect({ secret, ...simulator.secrets }).toEqual(JSON.parse(made));
    expect(readdirSync(folder)).toEqual(['secrets.json']);
    expect(readFileSync(join(folder, 'secrets.json'), 'utf8')).toBe(made);
  });

  test("if the simulator's own secret is set, as in docker-compose.yml, the simulator needs no other secret", () => {
    const NODROP_HOME = newHome();
    const { secrets } = loadSimulatorConfig({ NODROP_HOME, NODROP_SIMULATOR_SECRET: WHSEC }).simulator;
    expect(secrets).toEqual({ simulator: WHSEC });
    expect(() => loadSimulatorConfig({ NODROP_HOME })).toThrow(/^NODROP_HOME=.+ has no secrets yet/);
    makeEmbeddedSecrets(NODROP_HOME);
    expect(loadSimulatorConfig({ NODROP_HOME }).simulator).toEqual(load({ NODROP_HOME }).simulator);
  });

  test('a file that is not JSON is reported in one sentence', () => {
    const folder = newHome();
    writeFileSync(join(folder, 'secrets.json'), '');
    expect(() => load({ NODROP_HOME: folder })).toThrow(/^NODROP_HOME is wrong: .+ cannot be used \(.+\)\.$/);
  });

  test('starting the stack creates the secrets once, in a new folder if necessary, and only their owner can read them', () => {
    const folder = join(newHome(), 'new');
    const { secret } = loadStackConfig({ NODROP_HOME: folder });
    expect(statSync(join(folder, 'secrets.json')).mode & 0o777).toBe(0o600);
    expect(loadStackConfig({ NODROP_HOME: folder }).secret).toBe(secret);
  });

  test('the stack creates no secrets if the database is external or a setting is wrong', () => {
    const folder = join(newHome(), 'new');
    loadStackConfig({ ...OWN, NODROP_HOME: folder });
    expect(() => loadStackConfig({ NODROP_HOME: folder, PORT: 'x' })).toThrow(ConfigError);
    expect(() => loadStackConfig({ NODROP_HOME: folder, NODROP_MODE: 'live' })).toThrow(ConfigError);
    expect(existsSync(folder)).toBe(false);
  });

  test('concurrent starts get the same secrets, and leave one complete file', async () => {
    const folder = newHome();
    const module = fileURLToPath(new URL('../src/stack/embedded-secrets.ts', import.meta.url));
    const script = `
      const { loadStackConfig } = await import(${JSON.stringify(module)});
      console.log('loaded');
      for await (const _ of process.stdin);
      console.log(loadStackConfig().secret);`;
    const starters = Array.from({ length: 4 }, () =>
      spawn(process.execPath, ['--import', tsxLoader(), '--input-type=module', '--eval', script], {
        env: { PATH: process.env.PATH, NODROP_HOME: folder },
      }),
    );
    const outputs = starters.map(({ stdout }) => text(stdout));
    // No process creates secrets until all processes are running.
    await Promise.all(starters.map(({ stdout }) => new Promise((resolve) => stdout.once('data', resolve))));
    for (const { stdin } of starters) stdin.end();
    const said = await Promise.all(outputs);
    const { secret } = JSON.parse(readFileSync(join(folder, 'secrets.json'), 'utf8'));
    expect(said).toEqual(Array(4).fill(`loaded\n${secret}\n`));
    expect(readdirSync(folder)).toEqual(['secrets.json']);
  });
});
