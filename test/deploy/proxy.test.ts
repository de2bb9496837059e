import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer, type IncomingHttpHeaders, type Server } from 'node:http';
import { request } from 'node:https';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { findCaddy } from '../../scripts/caddy.ts';
import { createAdminApp } from '../../src/api/admin/app.ts';
import { createMetrics } from '../../src/api/metrics.ts';
import { eventually, freePort } from '../support/stack.ts';
import { toolSettings } from '../support/tool-settings.ts';

/**
 * Tests deploy/caddy/Caddyfile with the real admin listener and a stand-in for the Web UI, which has no
 * sign-in.
 */

const file = fileURLToPath(new URL('../../deploy/caddy/Caddyfile', import.meta.url));
const caddy = findCaddy(toolSettings().cacheDir) ?? '';
const WEB_UI = 'temporal.localhost';
const ADMIN = 'admin.localhost';

if (caddy === '') {
  console.warn(
    'SKIPPED: there is no Caddy for deploy/caddy/Caddyfile; `npm test` installs it or reports why it cannot.',
  );
}

let folder: string;
let httpsPort: number;
let env: NodeJS.ProcessEnv;
let child: ChildProcess;
let output = '';
const servers: Server[] = [];
/** Collects the headers of the requests that reached the Web UI. */
const seen: IncomingHttpHeaders[] = [];

const listen = (server: Server) =>
  new Promise<string>((resolve) => {
    servers.push(server);
    server.listen(0, '127.0.0.1', () => resolve(`127.0.0.1:${(server.address() as AddressInfo).port}`));
  });

beforeAll(async () => {
  if (caddy === '') return;
  folder = mkdtempSync(join(tmpdir(), 'nodrop-caddy-'));
  const [httpPort, port] = [await freePort(), await freePort()];
  httpsPort = port;
  const webUi = createServer(({ headers }, response) => {
    seen.push(headers);
    response.end('the Web UI');
  });
  const details = async () => ({ mode: 'test' }) as never;
  const admin = createServer(createAdminApp(createMetrics(), details, 'http://127.0.0.1:3000', '127.0.0.1'));
  const hash = spawnSync(caddy, ['hash-password', '--plaintext', 'secret'], { encoding: 'utf8' });
  env = {
    ...process.env,
    HOME: folder,
    XDG_CONFIG_HOME: folder,
    XDG_DATA_HOME: folder,
    OPERATOR: 'alice',
    OPERATOR_HASH: hash.stdout.trim(),
    WEB_UI_NAME: WEB_UI,
    ADMIN_NAME: ADMIN,
    WEB_UI: await listen(webUi),
    ADMIN: await listen(admin),
  };
  // For names under localhost, Caddy issues certificates with its own authority. This authority must not be
  // installed on this machine.
  const settings = [
    'admin off',
    'skip_install_trust',
    'default_bind 127.0.0.1',
    `http_port ${httpPort}`,
    `https_port ${httpsPort}`,
    `storage file_system ${folder}/storage`,
  ];
  writeFileSync(join(folder, 'Caddyfile'), `{\n\t${settings.join('\n\t')}\n}\nimport ${file}\n`);
  child = spawn(caddy, ['run', '--config', join(folder, 'Caddyfile')], { env });
  for (const stream of [child.stdout, child.stderr]) stream?.on('data', (data) => (output += data));
  // Caddy listens before it has its certificates. So the test waits until Caddy answers for every name.
  const isReady = async () =>
    (await Promise.all([WEB_UI, ADMIN].map((name) => ask(name, host(name)).catch(() => undefined)))).every(
      (answer) => answer?.status === 401,
    );
  await eventually(async () => child.exitCode !== null || (await isReady()));
  if (child.exitCode !== null) throw new Error(`Caddy did not start: ${output}`);
});

afterAll(async () => {
  if (caddy === '') return;
  for (const server of servers) server.close();
  const ended = new Promise((resolve) => child.once('close', resolve));
  if (child.exitCode === null && child.kill('SIGKILL')) await ended;
  rmSync(folder, { recursive: true, force: true });
});

/** @param name the server name in the TLS handshake; undefined if the browser opens an IP address */
function ask(name: string | undefined, headers: Record<string, string>, path = '/') {
  const options = { host: '127.0.0.1', port: httpsPort, path, headers, agent: false };
  return new Promise<{ status: number | undefined; body: string }>((resolve, reject) => {
    request({ ...options, servername: name ?? '', rejectUnauthorized: false }, (response) => {
      let body = '';
      response.on('data', (data) => (body += data));
      response.on('end', () => resolve({ status: response.statusCode, body }));
    })
      .on('error', reject)
      .end();
  });
}

const host = (name: string) => ({ Host: `${name}:${httpsPort}` });
const as = (user: string) => ({ Authorization: `Basic ${Buffer.from(user).toString('base64')}` });
const SIGNED_IN = as('alice:secret');

describe.skipIf(caddy === '')('the proxy for operators', () => {
  test('has a Caddyfile that is valid with OPERATOR_HASH and invalid without it', () => {
    const validate = (changed: NodeJS.ProcessEnv) =>
      spawnSync(caddy, ['validate', '--adapter', 'caddyfile', '--config', join(folder, 'Caddyfile')], {
        env: { ...env, ...changed },
      }).status;
    expect(validate({})).toBe(0);
    expect(validate({ OPERATOR_HASH: '' })).not.toBe(0);
  });

  test('forwards a request with the right host name and password, but does not forward the password', async () => {
    expect(await ask(WEB_UI, { ...host(WEB_UI), ...SIGNED_IN })).toEqual({ status: 200, body: 'the Web UI' });
    expect(seen.map(({ authorization }) => authorization)).toEqual([undefined]);
    expect(await ask(ADMIN, { ...host(ADMIN), ...SIGNED_IN }, '/details')).toEqual({
      status: 200,
      body: '{"mode":"test"}',
    });
    expect((await ask(ADMIN, { ...host(ADMIN), ...SIGNED_IN }, '/metrics')).status).toBe(200);
  });

  test.each([
    ['without a user', {}],
    ['with another user', as('eve:secret')],
    ['with a wrong password', as('alice:wrong')],
  ])('answers 401 to a request %s', async (_who, headers) => {
    const before = seen.length;
    for (const name of [WEB_UI, ADMIN]) {
      expect((await ask(name, { ...host(name), ...headers }, '/details')).status).toBe(401);
    }
    expect(seen).toHaveLength(before);
  });

  test.each(['evil.example', '127.0.0.1', 'localhost'])(
    'refuses the host name %s, with and without a sign-in',
    async (name) => {
      const before = seen.length;
      for (const served of [WEB_UI, ADMIN]) {
        for (const headers of [host(name), { ...host(name), ...SIGNED_IN }]) {
          expect((await ask(served, headers, '/details')).status).toBe(421);
        }
      }
      // A browser that uses another name for this machine gets either no certificate or a refusal.
      for (const server of [name, undefined]) {
        const status = await ask(server, { ...host(name), ...SIGNED_IN }).then(
          (answer) => answer.status,
          () => 'no handshake',
        );
        expect(['no handshake', 421]).toContain(status);
      }
      expect(seen).toHaveLength(before);
    },
  );
});
