import { randomUUID } from 'node:crypto';
import type { Server } from 'node:http';
import { PassThrough } from 'node:stream';
import { pino } from 'pino';
import { afterAll } from 'vitest';
import type { ApiDeps } from '../../src/api/api-deps.ts';
import { createApp } from '../../src/api/app.ts';
import { Changes, paymentKey, type Wait } from '../../src/api/changes.ts';
import { listen, stopListening } from '../../src/api/http/listen.ts';
import { createMetrics } from '../../src/api/metrics.ts';
import { UnverifiedCallbacks } from '../../src/api/unverified-callbacks.ts';
import { sign, signer } from '../../src/channels/simulator/protocol.ts';
import { validated } from '../../src/channels/validated-adapter.ts';
import type { ChannelAdapter, MethodDeclaration, PaidAnswer } from '../../src/domain/channel.ts';
import type { DeliverySnapshot } from '../../src/domain/delivery.ts';
import type { RefundSnapshot } from '../../src/domain/refund.ts';
import { createLedgerClient, type LedgerClient } from '../../src/ledger/client.ts';
import { createApiKey, ensureMerchant, type Role } from '../../src/ledger/merchants.ts';
import { recordAnswer, recordCreated, settlePayment } from '../../src/ledger/payments.ts';
import type { Payment } from '../../src/ledger/rows.ts';
import { TemporalUnavailable } from '../../src/temporal/payment-workflows.ts';
import { createSimulatorAdapter } from '../support/simulator-adapter.ts';
import { freshDatabase } from '../support/stack.ts';

/** Runs the API over real HTTP and on a real database, with a stand-in for the workflows. */

export const CHANNEL_SECRET = `whsec_${Buffer.alloc(32, 7).toString('base64')}`;

export function testChannels(): ApiDeps['channels'] {
  const adapters = (['simulator', 'simulator2'] as const).map((name) =>
    // The API never calls the channel. The worker does that.
    validated(createSimulatorAdapter({ name, baseUrl: 'http://127.0.0.1:1', secret: CHANNEL_SECRET })),
  );
  return new Map(adapters.map((adapter) => [adapter.declaration.name, adapter]));
}

/** A channel adapter that declares these currencies for every method. */
export function takingOnly(
  currencies: MethodDeclaration['currencies'],
  adapter: ChannelAdapter | undefined,
): ChannelAdapter {
  if (adapter === undefined) throw new Error('the channel does not exist');
  const [first, ...others] = adapter.declaration.methods;
  const methods = [{ ...first, currencies }, ...others.map((other) => ({ ...other, currencies }))] as const;
  return { ...adapter, declaration: { ...adapter.declaration, methods } };
}

type Workflows = ApiDeps['workflows'];
type RefundWorkflows = ApiDeps['refundWorkflows'];
type DeliveryWorkflows = ApiDeps['deliveryWorkflows'];

/**
 * A stand-in for payment workflows that records the API's signals to them. By default every signal succeeds, and the
 * next action appears immediately.
 */
export class StandInWorkflows implements Workflows {
  readonly calls: {
    readonly name: keyof Workflows;
    readonly paymentId: string;
    readonly args: readonly unknown[];
  }[] = [];
  readonly #db: LedgerClient;
  /** If true, every call fails in the same way as without a Temporal server. */
  down = false;
  /**
   * Acts as the workflow when a payment starts, or when a new next action is requested. If this function returns false,
   * the workflow gives no result in time. The test does not have to wait for this timeout: see `startTestApi`.
   */
  onAwaitNextAction: (payment: Payment) => Promise<boolean>;
  /** The payments for which `onAwaitNextAction` returned false. */
  readonly idle = new Set<string>();
  onAskChannel: (payment: Payment) => Promise<boolean> = async () => true;

  constructor(db: LedgerClient) {
    this.#db = db;
    this.onAwaitNextAction = async (payment) => {
      await recordCreated(
        this.#db,
        payment.id,
        { type: 'redirect', url: `https://wallet.example/${payment.id}` },
        new Date(),
      );
      return true;
    };
  }

  named(name: keyof Workflows) {
    return this.calls.filter((call) => call.name === name);
  }

  async start(payment: Payment, ...args: unknown[]) {
    this.#hear('start', payment, args);
    const advanced = await this.onAwaitNextAction(payment);
    if (advanced) this.idle.delete(payment.id);
    else this.idle.add(payment.id);
  }

  async awaitNextAction(payment: Payment, ...args: unknown[]) {
    this.#hear('awaitNextAction', payment, args);
    return await this.onAwaitNextAction(payment);
  }

  async askChannel(payment: Payment, ...args: unknown[]) {
    this.#hear('askChannel', payment, args);
    return await this.onAskChannel(payment);
  }

  async hint(payment: Payment, ...args: unknown[]) {
    this.#hear('hint', payment, args);
  }

  async cancel(payment: Payment, ...args: unknown[]) {
    this.#hear('cancel', payment, args);
  }

  async notice(payment: Payment, ...args: unknown[]) {
    this.#hear('notice', payment, args);
  }

  async wake(payment: Payment, ...args: unknown[]) {
    this.#hear('wake', payment, args);
  }

  async deliverCallback(payment: Payment, ...args: unknown[]) {
    this.#hear('deliverCallback', payment, args);
  }

  #hear(name: keyof Workflows, payment: Payment, args: readonly unknown[]) {
    this.calls.push({ name, paymentId: payment.id, args });
    if (this.down) throw new TemporalUnavailable('Temporal did not confirm');
  }
}

/** A stand-in for refund workflows that records the API's signals to them. */
export class StandInRefundWorkflows implements RefundWorkflows {
  readonly calls: { readonly name: keyof RefundWorkflows; readonly refundId: string }[] = [];
  down = false;

  async start({ id }: RefundSnapshot) {
    this.#hear('start', id);
  }

  async deliverCallback({ id }: RefundSnapshot) {
    this.#hear('deliverCallback', id);
  }

  #hear(name: keyof RefundWorkflows, refundId: string) {
    this.calls.push({ name, refundId });
    if (this.down) throw new TemporalUnavailable('Temporal did not confirm');
  }
}

/** A stand-in for delivery workflows that records the API's signals to them. */
export class StandInDeliveryWorkflows implements DeliveryWorkflows {
  /** The recorded calls, each with the id of the delivery or of the merchant. */
  readonly calls: { readonly name: keyof DeliveryWorkflows; readonly deliveryId: string }[] = [];
  down = false;

  async start({ id }: DeliverySnapshot) {
    this.#hear('start', id);
  }

  async wake({ id }: DeliverySnapshot) {
    this.#hear('wake', id);
  }

  async redeliver({ id }: DeliverySnapshot) {
    this.#hear('redeliver', id);
  }

  async redeliverWaiting(merchantId: string) {
    this.#hear('redeliverWaiting', merchantId);
  }

  #hear(name: keyof DeliveryWorkflows, deliveryId: string) {
    this.calls.push({ name, deliveryId });
    if (this.down) throw new TemporalUnavailable('Temporal did not confirm');
  }
}

export interface Answer {
  readonly status: number;
  readonly headers: Headers;
  // biome-ignore lint/suspicious/noExplicitAny: tests read fields of any answer.
  readonly json: any;
  readonly text: string;
}

export interface Call {
  readonly method?: string;
  readonly key?: string;
  /** The body, sent as JSON. */
  readonly body?: unknown;
  /** The body, sent unchanged. */
  readonly raw?: string | Uint8Array<ArrayBuffer>;
  readonly headers?: Record<string, string>;
  readonly signal?: AbortSignal;
}

export interface TestApi {
  readonly url: string;
  readonly server: Server;
  readonly db: LedgerClient;
  readonly workflows: StandInWorkflows;
  readonly refundWorkflows: StandInRefundWorkflows;
  readonly deliveryWorkflows: StandInDeliveryWorkflows;
  readonly changes: Changes;
  readonly unverified: UnverifiedCallbacks;
  readonly deps: ApiDeps;
  /** Every log line that the API has written. */
  readonly logged: () => string;
  call(path: string, call?: Call): Promise<Answer>;
  /**
   * @param patienceMs the time after which the API cuts open connections
   * @default 2,000
   */
  close(patienceMs?: number): Promise<void>;
}

/** A wait for a payment in `idle` ends immediately, as if the timeout had passed. */
class ImpatientChanges extends Changes {
  readonly #idle: ReadonlySet<string>;

  constructor(databaseUrl: string, log: ApiDeps['log'], idle: ReadonlySet<string>) {
    super(databaseUrl, log);
    this.#idle = idle;
  }

  override async until<T>(key: string, { done, ...wait }: Wait<T>): Promise<T> {
    const isIdle = () => wait.mustWait === true && this.#idle.has(key.slice(paymentKey('').length));
    return await super.until(key, { ...wait, done: (value) => done(value) || isIdle() });
  }
}

export const SECRET = 'a secret of at least thirty-two characters';

/** Starts one instance of the API on a free loopback port. In the tests, each instance acts as one process. */
export async function startTestApi(databaseUrl: string, overrides: Partial<ApiDeps> = {}): Promise<TestApi> {
  const lines: string[] = [];
  const sink = new PassThrough();
  sink.on('data', (line: Buffer) => lines.push(line.toString()));
  const log = pino({ level: 'debug' }, sink) as ApiDeps['log'];
  const db = createLedgerClient(databaseUrl);
  const workflows = new StandInWorkflows(db);
  const refundWorkflows = new StandInRefundWorkflows();
  const deliveryWorkflows = new StandInDeliveryWorkflows();
  const changes = new ImpatientChanges(databaseUrl, log, workflows.idle);
  const unverified = new UnverifiedCallbacks(db, log);
  const deps: ApiDeps = {
    config: {
      mode: 'test',
      embeddedDatabase: false,
      secret: SECRET,
      temporal: { address: '127.0.0.1:7233', namespace: 'default', uiUrl: 'http://127.0.0.1:8233' },
      api: { host: '127.0.0.1', port: 3000, publicUrl: 'https://pay.example', trustedProxies: [] },
      paymentExpiryMs: 1_800_000,
    },
    db,
    workflows,
    refundWorkflows,
    deliveryWorkflows,
    isTemporalReachable: async () => !workflows.down,
    channels: testChannels(),
    configured: ['simulator', 'simulator2'].map((channel) => ({
      channel,
      credentials: { secret: CHANNEL_SECRET },
    })),
    changes,
    log,
    metrics: createMetrics(),
    unverified,
    ...overrides,
  };
  const { server, port } = await listen(createApp(deps), '127.0.0.1', 0, 'PORT', deps.config.api.publicUrl);
  changes.start();
  const url = `http://127.0.0.1:${port}`;
  return {
    url,
    server,
    db,
    workflows,
    refundWorkflows,
    deliveryWorkflows,
    changes,
    unverified,
    deps,
    logged: () => lines.join(''),
    call: (path, call) => callUrl(`${url}${path}`, call),
    async close(patienceMs = 2_000) {
      await Promise.all([changes.close(), stopListening(server, patienceMs)]);
      await unverified.flush();
      await db.$disconnect();
    },
  };
}

/**
 * The usual setup of a test file. It makes the file's own database, an API on it, and a new merchant with a key. All
 * of them are removed after the last test of the file.
 */
export async function setUp({ role, ...overrides }: Partial<ApiDeps> & { readonly role?: Role } = {}) {
  const left: (() => Promise<void>)[] = [];
  afterAll(async () => {
    for (const remove of left.toReversed()) await remove();
  });
  const database = await freshDatabase();
  left.push(() => database.drop());
  const api = await startTestApi(database.url, overrides);
  left.push(() => api.close());
  return { database, api, ...(await newKey(api.db, role)) };
}

export async function callUrl(
  url: string,
  { method, key, body, raw, headers, signal }: Call = {},
): Promise<Answer> {
  const content = raw ?? (body === undefined ? undefined : JSON.stringify(body));
  const response = await fetch(url, {
    method: method ?? (content === undefined ? 'GET' : 'POST'),
    headers: {
      ...(key === undefined ? {} : { authorization: `Bearer ${key}` }),
      ...(body === undefined ? {} : { 'content-type': 'application/json' }),
      ...headers,
    },
    redirect: 'manual',
    ...(content === undefined ? {} : { body: content }),
    ...(signal === undefined ? {} : { signal }),
  });
  const text = await response.text();
  const isJson = /json/.test(response.headers.get('content-type') ?? '');
  return {
    status: response.status,
    headers: response.headers,
    text,
    json: isJson ? JSON.parse(text) : undefined,
  };
}

/** Creates a merchant with accounts at both channels. @returns its new key */
export async function newKey(db: LedgerClient, role: Role = 'merchant', name = `m-${randomUUID()}`) {
  const { merchant } = await ensureMerchant(db, name, ['simulator', 'simulator2']);
  const { key } = await createApiKey(db, merchant.id, role);
  return { key, merchantId: merchant.id };
}

export const newOrderId = (): string => `o-${randomUUID()}`;

/** Creates a payment as a merchant does. */
export async function pay(api: TestApi, key: string, body: Record<string, unknown> = {}) {
  const answer = await api.call('/v1/payments', {
    key,
    body: { order: { id: newOrderId(), amount: 1050, currency: 'CNY' }, channel: 'simulator', ...body },
  });
  if (answer.status !== 201) throw new Error(`${answer.status} ${answer.text}`);
  return answer.json;
}

/** The channel's verified answer that a payment is paid. */
export const paidAnswer = (changes: Partial<PaidAnswer> = {}): PaidAnswer => ({
  state: 'paid',
  channelPaymentId: 'T1',
  amount: 1050,
  currency: 'CNY',
  paidAt: new Date().toISOString(),
  ...changes,
});

/** Records the channel's answer that the payment is paid, and settles the payment. */
export async function settle(
  db: LedgerClient,
  paymentId: string,
  changes: Partial<PaidAnswer> = {},
  at = new Date(),
): Promise<void> {
  await recordAnswer(db, paymentId, paidAnswer(changes), 'query', at);
  await settlePayment(db, paymentId, at);
}

/** A callback in the form in which the simulator sends it. */
export function simulatorCallback(
  outTradeNo: string,
  id = `msg_${randomUUID()}`,
  changes: Record<string, unknown> = {},
  type = 'trade.succeeded',
) {
  const trade = {
    outTradeNo,
    state: 'SUCCESS',
    amount: 1050,
    currency: 'CNY',
    transactionId: `T${outTradeNo}`,
    paidAt: new Date().toISOString(),
    ...changes,
  };
  const raw = JSON.stringify({ type, data: trade });
  return { raw, headers: { 'content-type': 'application/json', ...sign(signer(CHANNEL_SECRET), id, raw) } };
}
