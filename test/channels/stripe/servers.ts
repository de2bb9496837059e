import { type ChildProcess, spawn } from 'node:child_process';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { lookUpStripeServer, type StripeServer } from '../../../scripts/stripe-servers.ts';
import { toolSettings } from '../../support/tool-settings.ts';

/** Servers of third parties that implement Stripe's API. Each runs as a separate process on loopback. */

export interface RunningServer {
  readonly url: string;
  stop(): Promise<void>;
}

/**
 * A program that starts localstripe without its file in the temporary folder. Otherwise all processes of localstripe
 * would share this file.
 */
const LOCALSTRIPE = `
import socket
from aiohttp import web
from localstripe import server
server.store.dump_to_disk = lambda: None
sock = socket.socket()
sock.bind(('127.0.0.1', 0))
print('listens at 127.0.0.1:%d' % sock.getsockname()[1], flush=True)
web.run_app(server.app, sock=sock, print=None, access_log=None)
`;

/**
 * The folder of the server. It is undefined if `npm test` could not obtain the server. In that case `npm test` has
 * reported the failure.
 */
export const folderOf = (server: StripeServer): string | undefined =>
  lookUpStripeServer(server, toolSettings().cacheDir);

export function startStripeServer(server: StripeServer, folder: string): Promise<RunningServer> {
  if (server === 'localstripe') {
    const env = { ...process.env, PYTHONPATH: folder, PYTHONDONTWRITEBYTECODE: '1' };
    return start(spawn('python3', ['-c', LOCALSTRIPE], { env }));
  }
  const loopback = ['-http-addr', '127.0.0.1:0', '-https-addr', '127.0.0.1:0'];
  return start(spawn(join(folder, 'stripe-mock'), loopback));
}

async function start(child: ChildProcess): Promise<RunningServer> {
  const end = () => void child.kill();
  process.once('exit', end);
  const said: string[] = [];
  const url = await new Promise<string>((resolve, reject) => {
    child.once('error', reject).once('exit', () => reject(new Error(`the server ended: ${said.join('\n')}`)));
    for (const stream of [child.stdout, child.stderr]) {
      if (stream === null) continue;
      createInterface(stream).on('line', (line) => {
        said.push(line);
        // stripe-mock also prints its HTTPS address, which is not used.
        const address = /HTTPS/.test(line) ? undefined : /127\.0\.0\.1:\d+/.exec(line)?.[0];
        if (address !== undefined) resolve(`http://${address}`);
      });
    }
  });
  return {
    url,
    async stop() {
      process.off('exit', end);
      const ended = new Promise((resolve) => child.once('exit', resolve));
      child.kill();
      await ended;
    },
  };
}

/** A request that passed through the proxy. */
export interface Passed {
  readonly method: string;
  readonly path: string;
  readonly body: string;
  readonly key: string | undefined;
}

/**
 * A proxy that records requests, and changes them with `change`. So the tests can use a server that does not have
 * every feature of Stripe.
 */
export async function startProxy(
  target: string,
  change: (passed: Passed) => { readonly body?: string; readonly path?: string },
): Promise<RunningServer & { readonly passed: readonly Passed[] }> {
  const passed: Passed[] = [];
  const server: Server = createServer(async (request, response) => {
    const chunks: Buffer[] = [];
    for await (const chunk of request) chunks.push(chunk as Buffer);
    const key = request.headers['idempotency-key'];
    const one: Passed = {
      method: request.method ?? 'GET',
      path: request.url ?? '/',
      body: Buffer.concat(chunks).toString('utf8'),
      key: typeof key === 'string' ? key : undefined,
    };
    passed.push(one);
    const { body = one.body, path = one.path } = change(one);
    const answer = await fetch(`${target}${path}`, {
      method: one.method,
      headers: {
        authorization: request.headers.authorization ?? '',
        ...(one.method === 'GET' ? {} : { 'content-type': 'application/x-www-form-urlencoded' }),
      },
      ...(one.method === 'GET' ? {} : { body }),
    });
    response.writeHead(answer.status, { 'content-type': 'application/json' }).end(await answer.text());
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;
  return {
    url: `http://127.0.0.1:${port}`,
    passed,
    async stop() {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}
