import { createHmac, randomBytes, randomUUID } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer, type IncomingHttpHeaders } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pino } from 'pino';
import { onTestFinished } from 'vitest';
import type { ChannelAccount, KnownRefund, NewTrade, Trade } from '../../src/domain/channel.ts';
import { startSimulator } from '../../src/simulator/app.ts';
import { eventually } from '../support/progress.ts';
import { createSimulatorAdapter } from '../support/simulator-adapter.ts';

/**
 * Support for tests that use real simulators, clients and receivers on loopback. All of them are stopped when
 * the test ends.
 */

export const SECRETS = {
  simulator: `whsec_${randomBytes(32).toString('base64')}`,
  simulator2: `whsec_${randomBytes(32).toString('base64')}`,
};

export const ACCOUNT: ChannelAccount = {
  id: 'default',
  merchantId: 'm',
  channel: 'simulator',
  credentials: [],
};

/**
 * The trade with this out-trade-no. Its channel id is not needed, because the simulator looks only at the
 * number.
 */
export const tradeNamed = (outTradeNo: string): Trade => ({
  ...{ outTradeNo, method: 'wallet', amount: 1050, currency: 'CNY' },
  ...{ createdAt: '2026-01-01T00:00:00.000Z', expiresAt: '2026-01-01T00:30:00.000Z', reference: null },
});
export const refundNamed = (outRefundNo: string): KnownRefund => ({ outRefundNo, channelRefundId: null });

export function tempFolder(): string {
  const folder = mkdtempSync(join(tmpdir(), 'nodrop-simulator-'));
  onTestFinished(() => rmSync(folder, { recursive: true, force: true }));
  return folder;
}

/**
 * Changes the journal of a stopped simulator, so that every refund in process is due when the simulator starts again.
 */
export function settleRefunds(folder: string): void {
  const journal = join(folder, 'journal.jsonl');
  const past = '"settlesAt":"2026-01-01T00:00:00.000Z"';
  writeFileSync(journal, readFileSync(journal, 'utf8').replace(/"settlesAt":"[^"]+"/g, past));
}

export interface StartOptions {
  readonly folder?: string;
  readonly callbackRetryMs?: readonly number[];
}

/** A simulator in this process, with an adapter for each account. */
export async function start(options: StartOptions = {}) {
  const simulator = await startSimulator({
    folder: tempFolder(),
    secrets: SECRETS,
    host: '127.0.0.1',
    port: 0,
    logger: pino({ level: 'silent' }),
    ...options,
  });
  let closed: Promise<void> | undefined;
  const close = () => {
    closed ??= simulator.close();
    return closed;
  };
  onTestFinished(close);
  const adapter = (name: 'simulator' | 'simulator2', secret = SECRETS[name]) =>
    createSimulatorAdapter({ name, baseUrl: simulator.url, secret });
  return { ...client(simulator.url), close, adapter: adapter('simulator'), adapterOf: adapter };
}

/** A client for the payer side and the control side of the simulator at `url`. */
export function client(url: string) {
  return {
    url,
    async pay(outTradeNo: string, result?: 'success' | 'declined' | 'processing') {
      const response = await fetch(`${url}/pay/${outTradeNo}`, {
        method: 'POST',
        headers: { 'content-type': 'application/json' },
        body: JSON.stringify(result === undefined ? {} : { result }),
      });
      return { status: response.status, body: (await response.json()) as Record<string, unknown> };
    },
    async setFaults(faults: object) {
      const response = await fetch(`${url}/_control/faults`, {
        method: 'PUT',
        headers: { 'content-type': 'application/json' },
        body: JSON.stringify(faults),
      });
      return { status: response.status, body: (await response.json()) as Record<string, unknown> };
    },
    async ledger() {
      const response = await fetch(`${url}/_control/ledger`);
      return (await response.json()) as LedgerRow[];
    },
  };
}

export interface LedgerRow {
  readonly outTradeNo: string;
  readonly state: string;
  readonly refunded: number;
  readonly createdCount: number;
  readonly queryCount: number;
  readonly callbackAttempts: number;
}

export function newTrade(changes: Partial<NewTrade> = {}): NewTrade {
  return {
    outTradeNo: `p${randomUUID().replaceAll('-', '').slice(0, 24)}`,
    method: 'wallet',
    amount: 1050,
    currency: 'CNY',
    subject: 'Two tickets',
    // A callback address for tests that do not check callbacks. No server listens on port 9 (discard).
    notifyUrl: 'http://127.0.0.1:9/callbacks',
    returnUrl: 'http://127.0.0.1:3000/return/p',
    createdAt: new Date().toISOString(),
    expiresAt: new Date(Date.now() + 1_800_000).toISOString(),
    reference: null,
    payer: {},
    ...changes,
  };
}

/** Computes a Standard Webhooks signature without the code under test. */
export function signature(secret: string, id: string, timestamp: number | string, payload: string): string {
  const key = Buffer.from(secret.slice('whsec_'.length), 'base64');
  return `v1,${createHmac('sha256', key).update(`${id}.${timestamp}.${payload}`).digest('base64')}`;
}

export interface SignedCall {
  readonly account?: string;
  readonly secret?: string;
  readonly timestamp?: number;
  /** The method and path that are signed, if they differ from those of the request. */
  readonly signedAs?: string;
}

/** Calls the channel side with a signature that this function computes. */
export async function call(url: string, method: string, path: string, body = '', options: SignedCall = {}) {
  const id = `req_${randomUUID()}`;
  const timestamp = options.timestamp ?? Math.floor(Date.now() / 1000);
  const payload = `${options.signedAs ?? `${method} ${path}`}\n${body}`;
  const response = await fetch(`${url}${path}`, {
    method,
    headers: {
      'simulator-account': options.account ?? 'simulator',
      'webhook-id': id,
      'webhook-timestamp': String(timestamp),
      'webhook-signature': signature(options.secret ?? SECRETS.simulator, id, timestamp, payload),
    },
    ...(body === '' ? {} : { body }),
  });
  const text = await response.text();
  return { status: response.status, headers: response.headers, text, id, body: JSON.parse(text) };
}

export interface Received {
  readonly headers: IncomingHttpHeaders;
  readonly rawBody: Buffer;
  readonly content: { readonly type: string; readonly data: Record<string, unknown> };
}

/**
 * A shop's callback endpoint. `answer` returns the status for the nth callback. The first callback has the
 * number 1.
 */
export async function receiver(answer: (count: number) => number = () => 200) {
  const received: Received[] = [];
  const server = createServer(async (req, res) => {
    const chunks: Buffer[] = [];
    for await (const chunk of req) chunks.push(chunk);
    const rawBody = Buffer.concat(chunks);
    received.push({ headers: req.headers, rawBody, content: JSON.parse(rawBody.toString()) });
    res.writeHead(answer(received.length)).end();
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  onTestFinished(() => {
    server.closeAllConnections();
    server.close();
  });
  return {
    received,
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}/callbacks/simulator`,
    /** Resolves with the callbacks as soon as `count` of them have arrived. */
    async until(count: number): Promise<readonly Received[]> {
      await eventually(() => received.length >= count);
      return received;
    },
  };
}
