import { expect } from 'vitest';
import { validated } from '../../../src/channels/validated-adapter.ts';
import type {
  Acknowledgement,
  CallbackOutcome,
  CallbackRequest,
  CallbackSubject,
  ChannelAdapter,
  CreatedTrade,
  CurrencyLimits,
  MethodDeclaration,
  NewRefund,
  NewTrade,
  PaidAnswer,
  RefundAnswer,
  Trade,
  VerifiedCallback,
} from '../../../src/domain/channel.ts';
import { ChannelError } from '../../../src/domain/channel.ts';
import { newPaymentId, requestedRefundId } from '../../../src/domain/ids.ts';
import { MAX_AMOUNT, toDecimal } from '../../../src/domain/money.ts';
import { eventually } from '../../support/progress.ts';
import { type Answer, type ChannelProxy, type Fault, proxyTo, type Sent, serve } from './http.ts';
import { CALLS, type Call, type Contract, type Party, type SetUp } from './types.ts';

/** One case of the suite. */
export interface ContractCase {
  readonly name: string;
  /** Returns false for a channel at which the case cannot happen. */
  readonly appliesTo?: (contract: Contract) => boolean;
  readonly run: (bench: Bench) => Promise<void>;
}

/** The result of one call of the adapter. */
export type Outcome = { readonly answer: unknown } | { readonly error: unknown };

/** The arguments of a call: a trade in the state that the call needs, and a refund of this trade. */
export interface Subject {
  readonly trade: NewTrade;
  readonly refund: NewRefund;
}

/** A callback that the suite has received, with its path and query string. */
export interface Received extends CallbackRequest {
  readonly path: string;
}

/** The longest time that the suite waits for a message, in ms. Messages over loopback arrive much earlier. */
const REST_MS = 20_000;

/** A channel that has just started, an adapter for this channel, and the proxy and receivers around them. */
export class Bench {
  readonly contract: Contract;
  /** The adapter, whose answers are checked as in nodrop. An answer that the ledger cannot store is an error. */
  readonly adapter: ChannelAdapter;
  readonly received: readonly Received[];
  /** An address to which the adapter must not send anything. */
  readonly elsewhere: { readonly url: string; readonly requests: readonly Sent[] };
  /** How the suite answers the next callbacks, in this order. It answers later callbacks with `stored`. */
  readonly nextOutcomes: CallbackOutcome[];
  readonly #proxy: ChannelProxy;
  readonly #receiverUrl: string;
  readonly #close: () => Promise<void>;

  private constructor(parts: {
    contract: Contract;
    proxy: ChannelProxy;
    received: Received[];
    elsewhere: Bench['elsewhere'];
    nextOutcomes: CallbackOutcome[];
    receiverUrl: string;
    close: () => Promise<void>;
  }) {
    this.contract = parts.contract;
    this.adapter = validated(parts.contract.ours.adapter);
    this.received = parts.received;
    this.elsewhere = parts.elsewhere;
    this.nextOutcomes = parts.nextOutcomes;
    this.#proxy = parts.proxy;
    this.#receiverUrl = parts.receiverUrl;
    this.#close = parts.close;
  }

  static async open(setUp: SetUp): Promise<Bench> {
    const received: Received[] = [];
    const nextOutcomes: CallbackOutcome[] = [];
    let ours: Party | undefined;
    const receiver = await serve(async ({ path, headers, body }) => {
      received.push({ path, headers, rawBody: Buffer.from(body) });
      const { status, type, body: text } = acknowledgement(ours?.adapter, nextOutcomes.shift() ?? 'stored');
      return { status, headers: { 'content-type': type }, body: text };
    });
    const strayed: Sent[] = [];
    const elsewhere = await serve(async (request) => {
      strayed.push(request);
      return { status: 200, headers: { 'content-type': 'application/json' }, body: '{}' };
    });
    const proxies: ChannelProxy[] = [];
    const contract = await setUp({
      callbacksTo: `${receiver.url}/registered`,
      async proxyTo(url) {
        proxies.push(await proxyTo(url));
        return proxies[0]?.url ?? '';
      },
    });
    ours = contract.ours;
    const [proxy] = proxies;
    if (proxy === undefined || proxies.length > 1)
      throw new Error('The set-up must start exactly one proxy.');
    return new Bench({
      ...{ contract, proxy, received, nextOutcomes, receiverUrl: receiver.url },
      elsewhere: { url: elsewhere.url, requests: strayed },
      async close() {
        await contract.close();
        for (const server of [proxy, receiver, elsewhere]) server.close();
      },
    });
  }

  close(): Promise<void> {
    return this.#close();
  }

  get declaration() {
    return this.adapter.declaration;
  }
  get account() {
    return this.contract.ours.account;
  }
  get channel() {
    return this.contract.channel;
  }
  get protocol() {
    return this.contract.protocol;
  }

  /** The calls for which this adapter sends requests to its channel. */
  get calls(): readonly Call[] {
    const { createsWithoutRequest } = this.protocol;
    return CALLS.filter(
      (call) =>
        (call !== 'findTrade' || this.adapter.findTrade !== undefined) &&
        (call !== 'createTrade' || !createsWithoutRequest),
    );
  }

  /** A trade that the channel does not know yet, within the limits of its method. */
  newTrade(changes: Partial<NewTrade> = {}): NewTrade {
    const { methods } = this.declaration;
    const method = methods.find(({ name }) => name === changes.method) ?? methods[0];
    const currency = changes.currency ?? currenciesOf(method)[0];
    const outTradeNo = newPaymentId();
    const now = Date.now();
    const lives = Math.max(method.expiry.atLeastMs, Math.min(1_800_000, method.expiry.atMostMs ?? 1_800_000));
    return {
      ...{
        outTradeNo,
        method: method.name,
        currency,
        amount: withinLimits(1050, limitsOf(method, currency)),
      },
      createdAt: new Date(now).toISOString(),
      expiresAt: new Date(now + lives).toISOString(),
      ...{ reference: null, subject: 'Two tickets' },
      notifyUrl: `${this.#receiverUrl}/callbacks/${this.declaration.name}/acc_1/${outTradeNo}/a-b_c`,
      returnUrl: `https://shop.example/return/${outTradeNo}?token=ct_A-b_1`,
      payer: Object.fromEntries(method.needs.map((field) => [field, PAYER[field]])),
      ...changes,
    };
  }

  /**
   * Creates a trade.
   * @returns the trade with the data that its payment stores, and the payer's next action
   */
  async create(changes: Partial<NewTrade> = {}): Promise<NewTrade & Pick<CreatedTrade, 'action'>> {
    const trade = this.newTrade(changes);
    const created = await this.adapter.createTrade(this.account, trade);
    if (created === 'not_renewable') throw new Error('createTrade answered not_renewable for a new trade');
    return { ...trade, reference: created.reference ?? null, action: created.action };
  }

  async pay(trade: Trade): Promise<void> {
    expect(await this.channel.pay(trade), 'the payer pays').toBe(true);
  }

  /**
   * Creates a trade and makes sure that it exists at the channel. At some channels, opening the payer's link creates
   * it.
   */
  async createOpened(changes: Partial<NewTrade> = {}) {
    const trade = await this.create(changes);
    await this.channel.open?.(trade);
    return trade;
  }

  async createPaid(changes: Partial<NewTrade> = {}) {
    const trade = await this.create(changes);
    await this.pay(trade);
    return trade;
  }

  query(trade: Trade) {
    return this.adapter.queryTrade(this.account, trade);
  }

  /** Queries a trade that must be paid, and returns the answer. */
  async queryPaid(trade: Trade): Promise<PaidAnswer> {
    const answer = await this.query(trade);
    if (answer.state !== 'paid' && answer.state !== 'refunded')
      return expect.fail(`the paid trade is reported as ${answer.state}`);
    return answer;
  }

  /** A refund of the trade. Its default amount is a third of the trade's amount, within the limits. */
  refundOf(trade: Trade, amount = this.partOf(trade)): NewRefund {
    nth += 1;
    const request = { merchantId: 'm', paymentId: trade.outTradeNo, idempotencyKey: String(nth), amount };
    const { currency, amount: total } = trade;
    return {
      outRefundNo: requestedRefundId(request),
      channelRefundId: null,
      attempt: 1,
      amount,
      currency,
      total,
    };
  }

  partOf({ method, amount, currency }: Trade): number {
    const declared = this.declaration.methods.find(({ name }) => name === method);
    const { multipleOf = 1 } = declared === undefined ? {} : limitsOf(declared, currency);
    return Math.max(multipleOf, Math.floor(amount / 3 / multipleOf) * multipleOf);
  }

  /** Requests the refund. @returns the refund with the data that its row stores */
  async refund(trade: Trade, refund = this.refundOf(trade)): Promise<NewRefund> {
    const answer = await this.adapter.refundTrade(this.account, trade, refund);
    expect(['succeeded', 'processing'], 'the state of a refund asked for').toContain(answer.state);
    return withIdOf(refund, answer);
  }

  /** The channel's books about the trade. */
  async books(trade: Trade) {
    return await this.channel.books(trade);
  }

  /** Returns all requests that the adapter sends to the channel while `work` runs. */
  async sentDuring(work: () => Promise<unknown>): Promise<readonly Sent[]> {
    const from = this.#proxy.requests.length;
    await work();
    return this.#proxy.requests.slice(from);
  }

  /** Returns the channel's own answer to the last request of `work`, unchanged. */
  async lastAnswer(work: () => Promise<unknown>): Promise<Answer> {
    await work();
    const answer = this.#proxy.lastAnswer();
    if (answer === undefined) throw new Error('The channel received no request.');
    return answer;
  }

  /** Runs `work`. For each of its requests, counted from 0, `faultOf` decides the fault. */
  async withFault<T>(faultOf: (nth: number) => Fault | undefined, work: () => Promise<T>): Promise<T> {
    let count = 0;
    this.#proxy.setFault(() => {
      count += 1;
      return faultOf(count - 1);
    });
    try {
      return await work();
    } finally {
      this.#proxy.setFault(null);
    }
  }

  /** Creates a trade in the state that the call needs, and a refund of this trade. */
  async subjectFor(call: Call): Promise<Subject> {
    const trade = call === 'createTrade' ? this.newTrade() : await this.createOpened();
    const refund = this.refundOf(trade);
    if (call === 'refundTrade' || call === 'queryRefund') await this.pay(trade);
    return { trade, refund: call === 'queryRefund' ? await this.refund(trade, refund) : refund };
  }

  /** Calls one function of the adapter. */
  async perform(
    call: Call,
    { trade, refund }: Subject,
    { account }: Pick<Party, 'account'> = this.contract.ours,
    { adapter = this.adapter, signal }: { adapter?: ChannelAdapter; signal?: AbortSignal } = {},
  ): Promise<unknown> {
    switch (call) {
      case 'createTrade':
        return await adapter.createTrade(account, trade, signal);
      case 'findTrade':
        return await adapter.findTrade?.(account, { ...trade, reference: null }, signal);
      case 'queryTrade':
        return await adapter.queryTrade(account, trade, signal);
      case 'closeTrade':
        return await adapter.closeTrade(account, trade, signal);
      case 'refundTrade':
        return await adapter.refundTrade(account, trade, refund, signal);
      case 'queryRefund':
        return await adapter.queryRefund(account, trade, refund, signal);
      case 'checkAccount':
        return await adapter.checkAccount(account, signal);
    }
  }

  /**
   * Makes the call and loses the answer to its last request. The channel carries out the request, but the adapter does
   * not learn that.
   */
  async loseLastAnswer(call: Call, subject: Subject): Promise<void> {
    const clean = await this.subjectFor(call);
    const { length } = await this.sentDuring(() => this.perform(call, clean));
    const outcome = await this.withFault(
      (nth) => (nth === length - 1 ? { kind: 'loses the answer' } : undefined),
      () => outcomeOf(() => this.perform(call, subject)),
    );
    expect(errorOf(outcome, `a lost answer to ${call}`).kind).toBe('unreachable');
  }

  /**
   * Makes the call several times, once for each request that the call sends. Each time, a different request has the
   * fault.
   */
  async atEachRequest(
    call: Call,
    fault: Fault,
    look: (outcome: Outcome, sent: readonly Sent[], subject: Subject) => void | Promise<void>,
  ): Promise<void> {
    const clean = await this.subjectFor(call);
    const { length } = await this.sentDuring(() => this.perform(call, clean));
    expect(length, `requests of ${call}`).toBeGreaterThan(0);
    for (let nth = 0; nth < length; nth++) {
      const subject = await this.subjectFor(call);
      let outcome: Outcome = { answer: undefined };
      const sent = await this.withFault(
        (count) => (count === nth ? fault : undefined),
        () =>
          this.sentDuring(async () => {
            outcome = await outcomeOf(() => this.perform(call, subject));
          }),
      );
      await look(outcome, sent, subject);
    }
  }

  /**
   * Returns the first callback that the channel sends about the trade because of `work`. Skips callbacks about other
   * trades, and callbacks that the adapter ignores.
   */
  async callbackAfter(
    trade: Trade,
    work: () => Promise<unknown>,
  ): Promise<{ request: Received; verified: VerifiedCallback }> {
    const from = this.received.length;
    await work();
    let seen = from;
    return await eventually(async () => {
      for (; seen < this.received.length; seen++) {
        const request = this.received[seen] as Received;
        const verified = await this.adapter.verifyCallback(this.account, request);
        if (verified.kind !== 'ignored' && !isOfAnother(verified.about, trade)) return { request, verified };
      }
      return undefined;
    }, REST_MS);
  }

  /** Returns the content of a request. The suite compares it with the content of another request. */
  termsOf(request: Sent): unknown {
    const { method, path, body } = request;
    return this.protocol.terms?.(request) ?? { method, path, body };
  }
}

let nth = 0;

const PAYER = { id: 'payer-4711', ip: '203.0.113.7' };

/** How the API answers a callback if the adapter has no function `acknowledge`. */
const BY_DEFAULT: Readonly<Record<CallbackOutcome, Acknowledgement>> = {
  stored: { status: 200, type: 'application/json', body: '{}' },
  ignored: { status: 200, type: 'application/json', body: '{}' },
  unreadable: { status: 200, type: 'application/json', body: '{}' },
  refused: { status: 401, type: 'application/problem+json', body: '{}' },
};

export const acknowledgement = (
  adapter: ChannelAdapter | undefined,
  outcome: CallbackOutcome,
): Acknowledgement => adapter?.acknowledge?.(outcome) ?? BY_DEFAULT[outcome];

const isOfAnother = (about: CallbackSubject, { outTradeNo, reference }: Trade): boolean =>
  (about.outTradeNo !== undefined && about.outTradeNo !== outTradeNo) ||
  (about.reference !== undefined && reference !== null && about.reference !== reference.id);

/**
 * The currencies with which the suite tests a method: all currencies that the method accepts. If it accepts `any`, one
 * currency for each usual number of decimal places.
 */
export function currenciesOf({ currencies }: MethodDeclaration): readonly [string, ...string[]] {
  if (currencies === 'any') return ['EUR', 'JPY', 'KWD'];
  const [first = 'EUR', ...rest] = Object.keys(currencies);
  return [first, ...rest];
}

export const limitsOf = ({ currencies }: MethodDeclaration, currency: string): CurrencyLimits =>
  currencies === 'any' ? {} : (currencies[currency] ?? {});

/** The amount that the limits allow and that is closest to the given amount. */
export function withinLimits(
  amount: number,
  { atLeast = 1, atMost = MAX_AMOUNT, multipleOf = 1 }: CurrencyLimits,
) {
  const least = Math.ceil(Math.max(1, atLeast) / multipleOf) * multipleOf;
  const most = Math.floor(atMost / multipleOf) * multipleOf;
  return Math.min(Math.max(least, Math.floor(amount / multipleOf) * multipleOf), most);
}

/** Converts minor units to whole units without trailing zeros, as in the channel's books. */
export const inWholeUnits = (amount: number, currency: string): string =>
  withoutZeros(toDecimal(amount, currency));
export const withoutZeros = (decimal: string): string =>
  decimal.includes('.') ? decimal.replace(/\.?0+$/, '') : decimal;

/** The sum of the refunds that the answer reports, in minor units. */
export function givenBack({ refunds, refundedAmount }: PaidAnswer): number {
  if (refunds === undefined) return refundedAmount ?? 0;
  return refunds.filter(({ state }) => state === 'succeeded').reduce((sum, { amount }) => sum + amount, 0);
}

export const withIdOf = (refund: NewRefund, answer: RefundAnswer): NewRefund => ({
  ...refund,
  channelRefundId: 'channelRefundId' in answer ? (answer.channelRefundId ?? null) : null,
});

export async function outcomeOf(work: () => Promise<unknown>): Promise<Outcome> {
  try {
    return { answer: await work() };
  } catch (error) {
    return { error };
  }
}

/** Returns the channel error of a call that must fail. */
export function errorOf(outcome: Outcome, what: string): ChannelError {
  if (!('error' in outcome))
    return expect.fail(`${what} was accepted as an answer: ${JSON.stringify(outcome.answer)}`);
  expect(outcome.error, what).toBeInstanceOf(ChannelError);
  return outcome.error as ChannelError;
}

/** Returns the result of `work`. Fails if `work` hangs. */
export async function endsByItself(what: string, work: Promise<Outcome>): Promise<Outcome> {
  let outcome: Outcome | undefined;
  void work.then((done) => {
    outcome = done;
  });
  try {
    return await eventually(() => outcome, REST_MS);
  } catch (cause) {
    throw new Error(`${what} does not end`, { cause });
  }
}

/** Variants of a JSON or form body. In each variant one member is missing or replaced, or the body is truncated. */
export function damaged(body: string): readonly string[] {
  let content: unknown;
  try {
    content = JSON.parse(body);
  } catch {
    return [body.slice(0, body.length / 2), body.slice(0, -1), ...damagedForms(body)];
  }
  const found: string[] = [body.slice(0, body.length / 2), body.slice(0, -1), `${body}${body}`];
  const walk = (node: unknown) => {
    if (typeof node !== 'object' || node === null) return;
    const parent = node as Record<string, unknown>;
    for (const [key, value] of Object.entries(parent)) {
      delete parent[key];
      found.push(JSON.stringify(content));
      for (const other of [null, 'zzz', -1, 0.5, [], {}, true]) {
        // A boolean in place of another boolean would still be a valid value, so this replacement is skipped.
        if (typeof value === 'boolean' && typeof other === 'boolean') continue;
        parent[key] = other;
        found.push(JSON.stringify(content));
      }
      parent[key] = value;
      walk(value);
    }
  };
  walk(content);
  return found;
}

const damagedForms = (body: string): readonly string[] =>
  [...new URLSearchParams(body)].flatMap(([name]) => {
    const [without, replaced] = [new URLSearchParams(body), new URLSearchParams(body)];
    without.delete(name);
    replaced.set(name, 'zzz');
    return [without.toString(), replaced.toString()];
  });
