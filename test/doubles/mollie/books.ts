import { randomBytes } from 'node:crypto';
import type { Answer, Sent } from '../../channels/contract/http.ts';
import { problem } from './http.ts';

export type PaymentStatus = 'open' | 'pending' | 'authorized' | 'paid' | 'canceled' | 'expired' | 'failed';

/** Amounts in the books are integers, in the smallest unit that Mollie uses for the currency. */
export interface Payment {
  readonly id: string;
  readonly profile: string;
  readonly mode: 'test' | 'live';
  amount: number;
  readonly currency: string;
  readonly description: string;
  readonly redirectUrl: string;
  readonly webhookUrl: string | null;
  readonly metadata: unknown;
  method: string | null;
  status: PaymentStatus;
  isCancelable: boolean;
  /** All times are epoch ms. */
  readonly createdAt: number;
  expiresAt: number;
  paidAt: number | null;
  failureReason: string | null;
}

export interface Refund {
  readonly id: string;
  readonly payment: string;
  readonly amount: number;
  readonly metadata: unknown;
  readonly createdAt: number;
  status: 'queued' | 'pending' | 'processing' | 'refunded' | 'failed' | 'canceled';
}

export interface Chargeback {
  readonly id: string;
  readonly payment: string;
  readonly amount: number;
  readonly createdAt: number;
  reversedAt: number | null;
}

/**
 * A call to a webhook, with its address, its body and the status of the answer. The status is null if there was no
 * answer.
 */
export interface WebhookCall {
  readonly url: string;
  readonly body: string;
  status: number | null;
}

export const FAULTS = ['500', '503', '409', '429', 'accepted', 'html'] as const;
/** A fault of the next `times` requests. It applies to requests whose method and address contain the text in `of`. */
export interface FaultOrder {
  readonly kind: (typeof FAULTS)[number];
  readonly of: string;
  times: number;
}

/** How long a payment stays open: https://docs.mollie.com/docs/handling-payment-status. */
const LIVES_MIN: Readonly<Record<string, number>> = {
  ideal: 15,
  creditcard: 30,
  bancontact: 60,
  paypal: 72 * 60,
};
const LIVES_MIN_WITHOUT_METHOD = 15;
/**
 * Mollie calls a webhook at most ten times, the first time immediately: https://docs.mollie.com/reference/webhooks. The
 * double's pauses between these calls are shorter than Mollie's.
 */
const CALLS_AT_MOST = 10;
const CALL_AGAIN_MS = 50;

const PLACES: Readonly<Record<string, number>> = { ISK: 0, JPY: 0 };
export const placesOf = (currency: string): number => PLACES[currency] ?? 2;

export const inWhole = (amount: number, currency: string): string => {
  const places = placesOf(currency);
  const digits = String(amount).padStart(places + 1, '0');
  return places === 0 ? digits : `${digits.slice(0, -places)}.${digits.slice(-places)}`;
};

/** The state of the Mollie double. Its methods act as payers, banks and merchants. */
export class Books {
  url = '';
  /** The profile of each accepted key. The prefix of the key shows its mode. */
  keys: Readonly<Record<string, string>> = {};
  readonly payments = new Map<string, Payment>();
  readonly refunds = new Map<string, Refund>();
  readonly chargebacks = new Map<string, Chargeback>();
  readonly calls: WebhookCall[] = [];
  readonly requests: Sent[] = [];
  /** The idempotency keys, each with its request and the answer to this request. */
  readonly stored = new Map<string, { request: string; answer: Answer; at: number }>();
  callsWebhooks = true;
  methods: readonly string[] = [];
  /** The final state of all refunds that are requested from now on. */
  refundPlan: 'refunded' | 'queued' | 'failed' | 'canceled' = 'refunded';
  clockOffsetMs = 0;
  #faults: FaultOrder[] = [];
  #count = 0;

  constructor() {
    this.reset();
  }

  reset(): void {
    for (const kept of [this.payments, this.refunds, this.chargebacks, this.stored]) kept.clear();
    this.calls.length = 0;
    this.requests.length = 0;
    this.#faults = [];
    this.clockOffsetMs = 0;
    this.callsWebhooks = true;
    this.refundPlan = 'refunded';
    this.methods = ['ideal', 'creditcard', 'bancontact', 'paypal'];
    this.keys = {
      test_doubleOursOursOursOurs: 'pfl_ours',
      test_doubleTheirsTheirsTheirs: 'pfl_theirs',
    };
  }

  now = (): number => Date.now() + this.clockOffsetMs;

  newId(prefix: string): string {
    this.#count += 1;
    return `${prefix}_${randomBytes(5).toString('hex')}${this.#count}`;
  }

  setFaults(orders: readonly FaultOrder[]): void {
    this.#faults = orders.map((order) => ({ ...order }));
  }

  takeFault(address: string): { readonly kind: FaultOrder['kind']; readonly answer: Answer } | undefined {
    const order = this.#faults.find(({ of, times }) => times > 0 && address.includes(of));
    if (order === undefined) return undefined;
    order.times -= 1;
    const { kind } = order;
    if (kind === 'html') return { kind, answer: { status: 200, body: '<html>' } };
    return { kind, answer: problem(kind === 'accepted' ? 500 : Number(kind), 'A fault injected by a test.') };
  }

  /** Returns the payment in its present state. If its expiry has passed, an open payment becomes expired. */
  paymentOf(id: string): Payment | undefined {
    const payment = this.payments.get(id);
    if (payment?.status === 'open' && this.now() >= payment.expiresAt) this.change(payment, 'expired');
    return payment;
  }

  addPayment(
    of: Pick<
      Payment,
      | 'profile'
      | 'mode'
      | 'amount'
      | 'currency'
      | 'description'
      | 'redirectUrl'
      | 'webhookUrl'
      | 'metadata'
      | 'method'
    >,
  ): Payment {
    const now = this.now();
    const minutes = LIVES_MIN[of.method ?? ''] ?? LIVES_MIN_WITHOUT_METHOD;
    const payment: Payment = {
      ...{ id: this.newId('tr'), status: 'open', isCancelable: false, createdAt: now },
      ...{ expiresAt: now + minutes * 60_000, paidAt: null, failureReason: null },
      ...of,
    };
    this.payments.set(payment.id, payment);
    return payment;
  }

  /**
   * Changes the payment as the payer, a bank or Mollie itself does.
   * @throws Error if the payment is already final
   */
  change(payment: Payment, status: PaymentStatus): void {
    const isOver = !['open', 'pending', 'authorized'].includes(payment.status);
    if (isOver) throw new Error(`${payment.id} is ${payment.status}`);
    payment.status = status;
    if (status === 'paid') payment.paidAt = this.now();
    if (status === 'failed') payment.failureReason = 'refused_by_issuer';
    if (status !== 'pending') this.call(payment);
  }

  /** The amount that can still be refunded. Refunds in progress are subtracted from it. */
  remainingOf(payment: Payment): number {
    const refunded = this.refundsOf(payment)
      .filter(({ status }) => status !== 'failed' && status !== 'canceled')
      .reduce((sum, { amount }) => sum + amount, 0);
    const taken = this.chargebacksOf(payment)
      .filter(({ reversedAt }) => reversedAt === null)
      .reduce((sum, { amount }) => sum + amount, 0);
    return payment.amount - refunded - taken;
  }

  refundsOf = ({ id }: Payment): Refund[] =>
    [...this.refunds.values()].filter(({ payment }) => payment === id);
  chargebacksOf = ({ id }: Payment): Chargeback[] =>
    [...this.chargebacks.values()].filter(({ payment }) => payment === id);

  addRefund(payment: Payment, amount: number, metadata: unknown): Refund {
    const refund: Refund = {
      ...{ id: this.newId('re'), payment: payment.id, amount, metadata, createdAt: this.now() },
      status: this.refundPlan === 'queued' ? 'queued' : 'pending',
    };
    this.refunds.set(refund.id, refund);
    return refund;
  }

  changeRefund(refund: Refund, status: Refund['status']): void {
    refund.status = status;
    const payment = this.payments.get(refund.payment);
    if (payment !== undefined && ['processing', 'refunded', 'failed'].includes(status)) this.call(payment);
  }

  /** Changes every pending refund to its planned state, as Mollie does. */
  finishRefunds(): void {
    const { refundPlan } = this;
    if (refundPlan === 'queued') return;
    for (const refund of this.refunds.values()) {
      if (refund.status !== 'pending') continue;
      if (refundPlan !== 'canceled') this.changeRefund(refund, 'processing');
      this.changeRefund(refund, refundPlan);
    }
  }

  addChargeback(payment: Payment, amount = payment.amount): Chargeback {
    const chargeback: Chargeback = {
      ...{ id: this.newId('chb'), payment: payment.id, amount },
      ...{ createdAt: this.now(), reversedAt: null },
    };
    this.chargebacks.set(chargeback.id, chargeback);
    this.call(payment);
    return chargeback;
  }

  reverse(chargeback: Chargeback): void {
    chargeback.reversedAt = this.now();
    const payment = this.payments.get(chargeback.payment);
    if (payment !== undefined) this.call(payment);
  }

  /** Calls the payment's webhook. Repeats the call until the answer is 200. */
  call({ id, webhookUrl }: Payment): void {
    if (webhookUrl === null) return;
    const call: WebhookCall = { url: webhookUrl, body: new URLSearchParams({ id }).toString(), status: null };
    this.calls.push(call);
    if (this.callsWebhooks) void this.#deliver(call, 1);
  }

  async #deliver(call: WebhookCall, attempt: number): Promise<void> {
    const headers = {
      'content-type': 'application/x-www-form-urlencoded',
      'user-agent': 'Mollie HTTP client/1.0',
    };
    call.status = await fetch(call.url, { method: 'POST', headers, body: call.body }).then(
      ({ status }) => status,
      () => null,
    );
    if (call.status === 200 || attempt >= CALLS_AT_MOST) return;
    setTimeout(() => void this.#deliver(call, attempt + 1), CALL_AGAIN_MS * attempt).unref();
  }
}
