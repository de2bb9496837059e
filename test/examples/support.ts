import { type ChildProcess, spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { connect } from 'node:net';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { Webhook } from 'standardwebhooks';
import { answers, listens } from '../../src/stack/program-spec.ts';
import { tsxLoader } from '../../src/tsx.ts';
import { emptyDatabase, eventually, type FreshDatabase, freePort } from '../support/stack.ts';

const root = fileURLToPath(new URL('../..', import.meta.url));

export const newSecret = () => `whsec_${randomBytes(32).toString('base64')}`;

/** A program in a process of its own. */
export class Example {
  readonly #command: readonly [string, ...string[]];
  readonly #env: Record<string, string>;
  readonly #isReady: () => Promise<boolean>;
  #child: ChildProcess | undefined;
  output = '';

  /**
   * @param entry the path of a program in this repository, or a command with its arguments that runs in the
   * repository's root
   */
  constructor(
    entry: string | readonly [string, ...string[]],
    env: Record<string, string>,
    isReady: () => Promise<boolean>,
  ) {
    this.#command =
      typeof entry === 'string' ? [process.execPath, '--import', tsxLoader(), join(root, entry)] : entry;
    this.#env = env;
    this.#isReady = isReady;
  }

  async start(): Promise<void> {
    const child = this.run();
    await eventually(async () => {
      if (child.exitCode !== null) throw new Error(`The program did not start: ${this.output}`);
      return this.#isReady();
    });
  }

  get hasEnded(): boolean {
    return this.#child?.exitCode !== null || this.#child.signalCode !== null;
  }

  /** Starts the program. Does not wait until the program listens. */
  run(): ChildProcess {
    const [program, ...args] = this.#command;
    const child = spawn(program, args, { cwd: root, env: { ...process.env, ...this.#env } });
    for (const stream of [child.stdout, child.stderr]) {
      stream.on('data', (data) => {
        this.output += data;
      });
    }
    this.#child = child;
    return child;
  }

  /** @returns the exit code, or the signal that ended the process */
  async stop(signal: NodeJS.Signals = 'SIGTERM'): Promise<number | string | null> {
    const child = this.#child;
    if (child === undefined || child.exitCode !== null || child.signalCode !== null) return null;
    const ended = once(child, 'exit');
    child.kill(signal);
    const [code, by] = await ended;
    return code ?? by;
  }
}

export interface Shop {
  readonly url: string;
  readonly database: FreshDatabase;
  readonly secret: string;
  readonly process: Example;
  stop(): Promise<void>;
}

/** Runs the shop with its own database. By default, its nodrop URL does not answer. */
export async function startShop(env: Record<string, string> = {}): Promise<Shop> {
  const database = await emptyDatabase();
  const port = await freePort();
  const url = `http://127.0.0.1:${port}`;
  const secret = newSecret();
  const own = {
    SHOP_PORT: String(port),
    SHOP_DATABASE_URL: database.url,
    SHOP_NODROP_URL: 'http://127.0.0.1:1',
    SHOP_NODROP_KEY: 'sk_of_the_shop',
    SHOP_WEBHOOK_SECRET: secret,
  };
  const shop = new Example('examples/shop/main.ts', { ...own, ...env }, () => answers(`${url}/healthz`));
  await shop.start();
  return {
    url,
    database,
    secret,
    process: shop,
    async stop() {
      await shop.stop();
      await database.drop();
    },
  };
}

/** Two commands: `entry` starts a receiver on a port and host, and `payer` creates an order and its payment. */
export interface ReceiverStart {
  readonly entry: string | ((port: number, host: string) => readonly [string, ...string[]]);
  readonly payer: string | readonly [string, ...string[]];
  readonly env?: Record<string, string>;
}

export const OWN_RECEIVER: ReceiverStart = {
  entry: 'examples/receiver/receiver.js',
  payer: 'examples/receiver/pay.js',
};

/**
 * Starts a receiver on a database that has the receiver's tables. By default it is the receiver of
 * `examples/receiver`.
 */
export async function startReceiver(
  database: Pick<FreshDatabase, 'url'>,
  secret: string,
  nodropUrl: string,
  { entry, env: more = {} }: ReceiverStart = OWN_RECEIVER,
  host?: string,
) {
  const address = host ?? '127.0.0.1';
  const port = await freePort();
  const env = {
    PORT: String(port),
    DATABASE_URL: database.url,
    NODROP_WEBHOOK_SECRET: secret,
    NODROP_URL: nodropUrl,
    NODROP_KEY: 'sk_of_the_shop',
    ...(host === undefined ? {} : { HOST: host }),
    ...more,
  };
  const command = typeof entry === 'string' ? entry : entry(port, address);
  const process = new Example(command, env, () => listens(port, address));
  await process.start();
  return { url: `http://${address}:${port}`, process };
}

let ids = 0;

/** Makes a new id in nodrop's format. */
export function newId(prefix: string): string {
  ids += 1;
  return `${prefix}_${Date.now().toString(36)}${String(ids).padStart(6, '0')}`;
}

/** An event as nodrop sends it. It has only the fields that a shop reads. */
export function eventOf(
  type: string,
  orderId: string,
  changes: { version?: number; payment?: object } = {},
): { type: string; timestamp: string; data: { payment: Record<string, unknown>; version: number } } {
  const payment = {
    id: newId('pay'),
    orderId,
    amount: 6800,
    currency: 'CNY',
    status: 'succeeded',
    orderUpdate: 'pending',
    receivedAmount: 6800,
    refundedAmount: 0,
    ...changes.payment,
  };
  return { type, timestamp: new Date().toISOString(), data: { payment, version: changes.version ?? 1 } };
}

export interface Sent {
  readonly status: number;
  // biome-ignore lint/suspicious/noExplicitAny: tests read fields of the answers.
  readonly body: any;
}

/** Sends an event as nodrop does. The library standardwebhooks signs it. */
export async function send(
  url: string,
  secret: string,
  event: object,
  { id = newId('evt'), at = new Date(), headers = {} }: { id?: string; at?: Date; headers?: object } = {},
): Promise<Sent> {
  const body = JSON.stringify(event);
  return await call(`${url}/nodrop/events`, {
    method: 'POST',
    headers: { 'content-type': 'application/json', ...signature(secret, id, at, body), ...headers },
    body,
  });
}

/** Reads an order back from the shop, as nodrop does. */
export async function readBack(url: string, secret: string, orderId: string): Promise<Sent> {
  return await call(`${url}/nodrop/orders/${encodeURIComponent(orderId)}`, {
    headers: signature(secret, newId('read'), new Date(), ''),
  });
}

/**
 * Sends a request to the receiver with exactly these headers. fetch does not allow that.
 * @returns the status of the answer, or 0 if the connection ended without an answer
 */
export function sendAsWritten(url: string, headers: Record<string, string>, body = ''): Promise<number> {
  const { hostname, port } = new URL(url);
  const head = Object.entries({ Host: `${hostname}:${port}`, ...headers }).map(
    ([name, value]) => `${name}: ${value}\r\n`,
  );
  return new Promise((resolve) => {
    let answer = '';
    const socket = connect(Number(port), hostname);
    const end = () => {
      socket.destroy();
      resolve(Number(/^HTTP\/1\.[01] (\d{3})/.exec(answer)?.[1] ?? 0));
    };
    socket.on('error', end).on('close', end);
    socket.on('data', (data) => {
      answer += data;
      if (/^HTTP\/1\.[01] [2-5]\d\d/.test(answer)) end();
    });
    socket.write(`POST /nodrop/events HTTP/1.1\r\n${head.join('')}\r\n${body}`);
  });
}

export function signature(secret: string, id: string, at: Date, body: string): Record<string, string> {
  return {
    'webhook-id': id,
    'webhook-timestamp': String(Math.floor(at.getTime() / 1000)),
    'webhook-signature': new Webhook(secret).sign(id, at, body),
  };
}

async function call(url: string, init: RequestInit): Promise<Sent> {
  const response = await fetch(url, { ...init, signal: AbortSignal.timeout(60_000) });
  const text = await response.text();
  const isJson = response.headers.get('content-type')?.startsWith('application/json') === true;
  return { status: response.status, body: isJson ? JSON.parse(text) : text };
}
