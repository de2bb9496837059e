import { randomUUID } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { WorkflowNotFoundError } from '@temporalio/client';
import type { LatePayment } from '../../src/domain/decision.ts';
import type { Order, Payment } from '../../src/ledger/rows.ts';
import { signature } from '../simulator/support.ts';
import { LISTS } from './listed-refunds.ts';
import { type Facts, type Trade, waitsFor } from './promises.ts';
import { type ReceivedCallback, UNTROUBLED_SIMULATOR, type World } from './world.ts';

/**
 * A merchant waits at most this long for an answer of the API. After that, its next action may begin while the
 * request continues.
 */
const IMPATIENT_MS = 150;
/**
 * No transaction timeout is shorter than this. A process that was frozen for longer may answer a callback with 503
 * instead of acknowledging it.
 */
const LEDGER_LIMIT_MS = 3_000;
/** The API may refuse a request with these statuses. Any other status that is not 2xx shows a bug. */
const REFUSALS = new Set([401, 404, 409, 422, 503, 504]);
export const AMOUNT = 1990;
export const CHANNELS = ['simulator', 'simulator2'] as const;
export type ChannelName = (typeof CHANNELS)[number];
const MINUTE = 60;
const HOUR = 60 * MINUTE;
/** A case must have ended after at most this many rounds of skipped time. */
const ROUNDS = 5;
/** Within this time after the end of a payment, the late watch sends at least one more query. */
const WATCHED_MS = 23 * HOUR * 1000;

interface Answer {
  readonly status: number;
  // biome-ignore lint/suspicious/noExplicitAny: answers of every shape.
  readonly body: any;
}

const sumOf = ({ ours, others }: { readonly ours: number; readonly others: number }) => ours + others;

export interface CaseOptions {
  readonly latePayment: LatePayment;
  /** The expiry of the order; null when it has none. */
  readonly expiresInSeconds: number | null;
  /** The channel's final decision about a payment that was in process for a long time. */
  readonly decides: 'success' | 'declined';
  /** Whether the merchant has its own shop, which gets events. */
  readonly hasShop: boolean;
}

/**
 * One order and its actors, which are the merchant, the payers, an attacker and the clock. Every method is one
 * action of an actor, and may be called in any state of the order.
 */
export class Case {
  readonly world: World;
  readonly orderId = `o-${randomUUID()}`;
  readonly #options: CaseOptions;
  /** Requests whose callers have stopped waiting for the answer. */
  readonly #unanswered: Promise<unknown>[] = [];
  /** Violations that were found while the case ran. */
  readonly wrong: string[] = [];
  /** For each idempotency key, the refund in the first answer. */
  readonly #refunds = new Map<string, string>();
  /** For each idempotency key, the payment in the first answer. */
  readonly #keyed = new Map<string, string>();
  /** The amounts that merchants refunded directly at the channel, by out-trade-no. */
  readonly #external = new Map<string, number>();
  #externals = 0;
  #cancelAsked = false;
  /** Payments whose cancellation the API accepted. */
  readonly #cancelled = new Set<string>();
  /**
   * All amounts that the merchant requested for the order, oldest first. `#changing` is the number of these requests
   * that have no answer yet.
   */
  readonly #asked = [AMOUNT];
  #changing = 0;
  /** The ids of the payments and refunds that the API has returned. */
  readonly #made = new Set<string>();

  constructor(world: World, options: CaseOptions) {
    this.world = world;
    this.#options = options;
  }

  get #merchant() {
    const { merchants, merchantsWithShop } = this.world;
    return (this.#options.hasShop ? merchantsWithShop : merchants)[this.#options.latePayment];
  }

  attempts(): Promise<Payment[]> {
    return this.world.db.payment.findMany({ where: { orderId: this.orderId }, orderBy: { id: 'asc' } });
  }

  /** Finds the nth payment of the order. The order may have fewer payments. */
  async #attempt(nth: number): Promise<Payment | undefined> {
    const attempts = await this.attempts();
    return attempts[nth % Math.max(1, attempts.length)];
  }

  async #ask(method: string, path: string, body?: object, key?: string): Promise<Answer | undefined> {
    return await Promise.race([this.#request(method, path, body, key), sleep(IMPATIENT_MS, undefined)]);
  }

  async #request(method: string, path: string, body?: object, key?: string): Promise<Answer> {
    const request = async (): Promise<Answer> => {
      const response = await fetch(`${this.world.apiUrl}${path}`, {
        method,
        headers: {
          authorization: `Bearer ${this.#merchant.key}`,
          ...(body === undefined ? {} : { 'content-type': 'application/json' }),
          ...(key === undefined ? {} : { 'idempotency-key': `${this.orderId}-${key}` }),
        },
        ...(body === undefined ? {} : { body: JSON.stringify(body) }),
      });
      const answer: Answer = { status: response.status, body: await response.json() };
      if (answer.status >= 300 && !REFUSALS.has(answer.status)) {
        this.wrong.push(`${method} ${path} was answered ${answer.status} ${JSON.stringify(answer.body)}`);
      }
      if (answer.status === 201) this.#made.add(answer.body.id);
      return answer;
    };
    const answered = request();
    this.#unanswered.push(answered);
    return await answered;
  }

  async create(channel: ChannelName, key?: string): Promise<void> {
    const { expiresInSeconds } = this.#options;
    const { amount } = (await this.#order()) ?? { amount: AMOUNT };
    const order = {
      id: this.orderId,
      amount: Number(amount),
      currency: 'CNY',
      ...(expiresInSeconds === null ? {} : { expiresInSeconds }),
    };
    const live = (await this.attempts()).find(
      (payment) => payment.channel === channel && ['created', 'paying'].includes(payment.status),
    );
    const keyed = key === undefined ? undefined : `${channel}-${key}`;
    const answer = await this.#ask('POST', '/v1/payments', { order, channel }, keyed);
    if (answer === undefined || answer.status >= 300) return;
    const { id, channel: made } = answer.body;
    if (made !== channel) this.wrong.push(`a payment through ${channel} was asked for, ${made} came`);
    if (keyed === undefined) {
      // While a payment is live, a repeated request for it returns the same payment.
      const others = (await this.attempts()).filter((payment) => payment.channel === channel);
      const both = others.filter(({ status }) => status === 'created' || status === 'paying');
      if (both.length > 1) this.wrong.push(`${both.length} live payments through ${channel}`);
      if (live !== undefined && id !== live.id && both.some((payment) => payment.id === live.id)) {
        this.wrong.push(`the live payment ${live.id} was not returned, but ${id}`);
      }
      return;
    }
    const first = this.#keyed.get(keyed) ?? id;
    this.#keyed.set(keyed, first);
    if (first !== id) this.wrong.push(`key ${key} was first payment ${first} and then ${id}`);
  }

  /** The payer acts in the wallet, before or after the expiry. Only the channel may refuse this action. */
  async pay(nth: number, result: 'success' | 'declined' | 'processing'): Promise<void> {
    const { network, simulator } = this.world;
    const payment = await this.#attempt(nth);
    if (payment === undefined) return;
    const now = await this.world.now();
    // If the payer pays after the late watch has ended, only a callback can report the money. So all faults end first.
    if (payment.endedAt !== null && payment.endedAt.getTime() + WATCHED_MS < now) await this.untroubled();
    if (!network.paidAt.has(payment.id)) network.paidAt.set(payment.id, now);
    const { status } = await simulator.pay(payment.id, result);
    if (status === 200 && result === 'declined') network.actedAt.delete(payment.id);
    else if (status === 200 && !network.actedAt.has(payment.id)) network.actedAt.set(payment.id, now);
    if (status !== 200 && (await this.#trade(payment.id))?.paidAt === null) network.paidAt.delete(payment.id);
  }

  async hint(nth: number): Promise<void> {
    const payment = await this.#attempt(nth);
    if (payment !== undefined) await this.#ask('POST', `/v1/payments/${payment.id}/hint`);
  }

  async queryNow(nth: number): Promise<void> {
    const payment = await this.#attempt(nth);
    if (payment !== undefined) await this.#ask('POST', `/v1/payments/${payment.id}/query`);
  }

  async cancelPayment(nth: number): Promise<void> {
    const payment = await this.#attempt(nth);
    if (payment === undefined) return;
    const answer = await this.#ask('POST', `/v1/payments/${payment.id}/cancel`);
    if (answer?.status === 202) this.#cancelled.add(payment.id);
    if (answer?.status === 200 && !['cancelled', 'closed', 'failed'].includes(answer.body.status)) {
      this.wrong.push(`a cancel was answered 200 with status ${answer.body.status}`);
    }
  }

  async cancelOrder(): Promise<void> {
    const answer = await this.#ask('POST', `/v1/orders/${this.orderId}/cancel`);
    if (answer !== undefined && answer.status < 300) this.#cancelAsked = true;
    if (answer?.status === 200 && !['cancelled', 'closed'].includes(answer.body.status)) {
      this.wrong.push(`an order's cancel was answered 200 with status ${answer.body.status}`);
    }
  }

  /** The merchant changes the amount of the order. */
  async changeAmount(amount: number): Promise<void> {
    this.#asked.push(amount);
    this.#changing += 1;
    const answered = this.#request('PATCH', `/v1/orders/${this.orderId}`, { amount }).finally(() => {
      this.#changing -= 1;
    });
    const answer = await Promise.race([answered, sleep(IMPATIENT_MS, undefined)]);
    if (answer?.status === 200 && this.#changing === 0 && answer.body.amount !== amount)
      this.wrong.push(`the order was to cost ${amount}, and costs ${answer.body.amount}`);
    // Every payment that can still be paid must have the order's new amount.
    const [{ others } = { others: 0 }] = await this.world.db.$queryRaw<{ others: number }[]>`
      SELECT count(*)::int AS others FROM payments JOIN orders ON orders.id = order_id
      WHERE order_id = ${this.orderId} AND payments.status IN ('created', 'paying')
        AND payments.amount <> orders.amount`;
    if (others > 0) this.wrong.push(`${others} live payments are of another amount than their order`);
  }

  async #order(): Promise<Order | null> {
    return await this.world.db.order.findFirst({ where: { id: this.orderId } });
  }

  /** @param amount the amount to refund; undefined to refund all remaining money */
  async refund(nth: number, key: string, amount: number | undefined): Promise<void> {
    const payment = await this.#attempt(nth);
    if (payment === undefined) return;
    const body = amount === undefined ? {} : { amount };
    const answer = await this.#ask('POST', `/v1/payments/${payment.id}/refunds`, body, `refund-${key}`);
    if (answer === undefined || answer.status >= 300) return;
    const first = this.#refunds.get(key) ?? answer.body.id;
    this.#refunds.set(key, first);
    if (first !== answer.body.id)
      this.wrong.push(`key ${key} was first refund ${first} and then ${answer.body.id}`);
  }

  /** The merchant refunds directly at the channel. */
  async refundElsewhere(nth: number, amount: number): Promise<void> {
    const payment = await this.#attempt(nth);
    if (payment === undefined) return;
    this.#externals += 1;
    const path = `/v1/trades/${payment.id}/refunds`;
    const outRefundNo = `elsewhere_${this.#externals}`;
    const { listed, hidden } = this.world.network;
    const lists = payment.channel === LISTS;
    // The refund is recorded before it is made, because a listing that is read at the same time may already contain it.
    if (lists) listed.madeElsewhere(outRefundNo, payment.id, amount);
    const given = await this.#channelCall(payment, path, { outRefundNo, amount });
    if (given === undefined) return;
    this.#external.set(payment.id, (this.#external.get(payment.id) ?? 0) + amount);
    // The channel already subtracts this refund from the amount that nodrop can refund. But the trade does not show the
    // refund yet.
    if (given.state === 'PROCESSING' && !lists) hidden.add(payment.id);
  }

  /** The bank returns refunded money to the merchant. Only one of the channels reports such returns. */
  async reverse(nth: number): Promise<void> {
    const payment = await this.#attempt(nth);
    if (payment?.channel !== LISTS) return;
    const isDone = async (outRefundNo: string) =>
      (await this.#channelCall(payment, `/v1/refunds/${outRefundNo}`, undefined))?.state === 'SUCCESS';
    await this.world.network.listed.reverseOne(payment.id, isDone);
  }

  /** @returns the channel's answer; undefined when the channel refused or could not be reached */
  async #channelCall(
    payment: Payment,
    path: string,
    content: object | undefined,
  ): Promise<{ readonly state: string } | undefined> {
    const method = content === undefined ? 'GET' : 'POST';
    const secret = this.world.secrets[payment.channel as ChannelName];
    const [id, timestamp, body] = [
      `req_${randomUUID()}`,
      Math.floor(Date.now() / 1000),
      content === undefined ? '' : JSON.stringify(content),
    ];
    const response = await fetch(`${this.world.simulator.url}${path}`, {
      method,
      headers: {
        'simulator-account': payment.channel,
        'content-type': 'application/json',
        'webhook-id': id,
        'webhook-timestamp': String(timestamp),
        'webhook-signature': signature(secret, id, timestamp, `${method} ${path}\n${body}`),
      },
      ...(content === undefined ? {} : { body }),
    }).catch(() => undefined);
    if (response?.ok) return (await response.json()) as { state: string };
    await response?.body?.cancel();
    return undefined;
  }

  /**
   * A sender that does not have the channel's secret claims that the payment is paid.
   * @param amount the claimed amount
   */
  async forge(nth: number, by: 'a stranger' | 'another channel', amount: number): Promise<void> {
    const payment = await this.#attempt(nth);
    if (payment === undefined) return;
    const other = payment.channel === 'simulator' ? 'simulator2' : 'simulator';
    const secret =
      by === 'a stranger' ? `whsec_${Buffer.alloc(32, 9).toString('base64')}` : this.world.secrets[other];
    const [id, timestamp] = [`msg_${randomUUID()}`, Math.floor(Date.now() / 1000)];
    const body = JSON.stringify({
      type: 'trade.succeeded',
      data: {
        outTradeNo: payment.id,
        state: 'SUCCESS',
        amount,
        currency: 'CNY',
        transactionId: 'forged',
        paidAt: new Date(timestamp * 1000).toISOString(),
      },
    });
    const paths =
      by === 'a stranger'
        ? [`/callbacks/${payment.channel}/${payment.channelAccountId}`]
        : [`/callbacks/${payment.channel}/${payment.channelAccountId}`, `/callbacks/${other}`];
    for (const path of paths) {
      const status = await this.world.network.passOn(this.world.apiUrl, {
        path,
        headers: {
          'content-type': 'application/json',
          'webhook-id': id,
          'webhook-timestamp': String(timestamp),
          'webhook-signature': signature(secret, id, timestamp, body),
        },
        body: Buffer.from(body),
      });
      // If the signature is correct for the other channel, the callback is stored there, but it matches no payment.
      if (status !== 401 && status !== 429 && !path.endsWith(other))
        this.wrong.push(`a forged callback was answered ${status}`);
    }
  }

  /** An earlier callback arrives again with exactly the same bytes. */
  async repeatCallback(nth: number): Promise<void> {
    const { received } = this.world.network;
    const callback = received[nth % Math.max(1, received.length)];
    if (callback !== undefined) await this.#passOn(callback);
  }

  /** Delivers the held callbacks in reverse order. */
  async releaseCallbacks(): Promise<void> {
    for (const callback of this.world.network.held.splice(0).reverse()) {
      this.world.network.received.push(callback);
      await this.#passOn(callback);
    }
  }

  async #passOn(callback: ReceivedCallback): Promise<void> {
    const { network, apiUrl } = this.world;
    const isAway = network.ledgerLosses.length > 0;
    const began = performance.now();
    const status = await network.passOn(apiUrl, callback);
    const ranOut = performance.now() - began >= LEDGER_LIMIT_MS;
    if (status !== 200 && status !== 401 && !((isAway || ranOut) && status === 503))
      this.wrong.push(`a callback was answered ${status}`);
  }

  /** Delivers the requests that were lost on their way to the channel. */
  async lateRequests(): Promise<void> {
    const { lateRequests } = this.world.network;
    await Promise.all(lateRequests.splice(0).map((arrive) => arrive().catch(() => undefined)));
  }

  /** Turns every fault off. */
  async untroubled(): Promise<void> {
    this.world.network.heal();
    this.world.shop.failing = 'nothing';
    await this.world.simulator.setFaults(UNTROUBLED_SIMULATOR);
  }

  /** @param seconds the time to let pass on the test's clock */
  async pass(seconds: number): Promise<void> {
    await this.world.startWorkers();
    // A channel's ledger lags behind for a few seconds at most.
    if (seconds > 10) await this.world.simulator.setFaults({ query: { lagMs: 0 } });
    // A channel is never unreachable for days. It decides a payment in process within one or two hours.
    if (seconds > HOUR) await this.untroubled();
    if (seconds > 2 * HOUR) await this.#decide();
    await this.world.pass(this.orderId, seconds);
  }

  async restartWorkers(): Promise<void> {
    await this.world.stopWorkers();
    await this.world.startWorkers();
  }

  /**
   * Ends all faults. Then lets enough time pass for the expiry, a day of late watch, refunds in process, and
   * the sweep.
   */
  async heal(): Promise<Facts> {
    await this.untroubled();
    await this.world.startWorkers();
    await this.releaseCallbacks();
    await this.#decide();
    await this.#comeToAnEnd();
    // If a refund was made directly at the channel and its callback was lost, only the statement or a query finds it.
    // So the merchant queries the payments with such refunds.
    const { listed } = this.world.network;
    const unreported = (await this.attempts()).filter(
      ({ id, status }) =>
        status === 'succeeded' && (this.#external.has(id) || sumOf(listed.reversedOf(id)) > 0),
    );
    for (const { id } of unreported) await this.#ask('POST', `/v1/payments/${id}/query`);
    await this.answers();
    if (unreported.length > 0) await this.#comeToAnEnd();
    return await this.facts();
  }

  /** Lets time pass until nothing changes any longer. */
  async #comeToAnEnd(): Promise<void> {
    for (let round = 1, before = ''; round <= ROUNDS; round++) {
      // The first wait lasts past every expiry. The second lasts past the late watch of workflows that only the
      // sweep started. The third lasts past all refunds that these workflows found.
      for (const seconds of [40 * MINUTE, 26 * HOUR, 2 * HOUR]) {
        await this.world.pass(this.orderId, seconds);
        await this.world.sweep();
      }
      await this.answers();
      // A slow machine does less work per skipped hour. So the case gets another round if anything in it has changed.
      const now = await this.world.progress(this.orderId);
      if (now === before || (await this.#hasEnded())) return;
      before = now;
    }
  }

  /** The channel decides all payments that it has in process. */
  async #decide(): Promise<void> {
    const { network, simulator } = this.world;
    const { decides } = this.#options;
    for (const { outTradeNo, state } of await this.#trades()) {
      if (state !== 'PROCESSING') continue;
      network.paidAt.set(outTradeNo, await this.world.now());
      if (decides === 'declined') network.actedAt.delete(outTradeNo);
      await simulator.pay(outTradeNo, decides);
    }
  }

  /** Waits for the answers to all requests so far. */
  async answers(): Promise<void> {
    while (this.#unanswered.length > 0) await Promise.all(this.#unanswered.splice(0));
  }

  async #hasEnded(): Promise<boolean> {
    const { workflows, deliveries } = await this.facts();
    return (
      workflows.every(({ status }) => status === 'COMPLETED') &&
      deliveries.every(({ status }) => status !== 'pending')
    );
  }

  async #trades(): Promise<Trade[]> {
    return (await this.world.simulator.ledger()) as unknown as Trade[];
  }

  async #trade(outTradeNo: string): Promise<Trade | undefined> {
    return (await this.#trades()).find((trade) => trade.outTradeNo === outTradeNo);
  }

  /** Reads the rows of nodrop's ledger and of the channel's ledger, and the recorded requests. */
  async facts(): Promise<Facts> {
    const { db, env } = this.world;
    const where = { orderId: this.orderId };
    const payments = await this.attempts();
    const refunds = await db.refund.findMany({ where: { payment: where } });
    const deliveries = await db.delivery.findMany({ where: { payment: where }, include: { event: true } });
    const workflows: { id: string; status: string }[] = [];
    for (const id of waitsFor(payments, refunds, deliveries)) {
      const status = await env.client.workflow
        .getHandle(id)
        .describe()
        .then(
          (run) => run.status.name,
          (error) => {
            if (error instanceof WorkflowNotFoundError) return 'never started';
            throw error;
          },
        );
      workflows.push({ id, status });
    }
    const { acknowledged, actedAt, hidden, listed, noticed } = this.world.network;
    return {
      ...this.#options,
      order: await this.#order(),
      asked: this.#asked,
      payments,
      refunds,
      deliveries,
      handedOut: this.world.shop.handedOut.filter(({ orderId }) => orderId === this.orderId),
      callbacks: await db.callback.findMany({
        where: { OR: [{ payment: where }, { notificationId: { in: [...acknowledged] } }] },
      }),
      acknowledged,
      noticed,
      actedAt,
      hidden,
      made: this.#made,
      trades: await this.#trades(),
      workflows,
      external: this.#external,
      reversedOf: (id) => listed.reversedOf(id),
      cancelAsked: this.#cancelAsked,
      cancelled: this.#cancelled,
      skipped: (from, to) => this.world.skipped.between(from, to),
    };
  }
}
