import { createHmac, randomBytes } from 'node:crypto';

export interface Intent {
  id: string;
  amount: number;
  currency: string;
  created: number;
  description: string | null;
  metadata: Record<string, string>;
  status: string;
  /** The type of the next action. It is set if the payer pays later and outside Stripe's form. */
  nextAction: string | null;
  /** The amount that was received. Set if it differs from `amount`. */
  received?: number;
  /** The Checkout session that the intent belongs to. */
  session: string | null;
  charge: { id: string; created: number; disputed: boolean } | null;
}

export interface Session {
  id: string;
  amount: number;
  currency: string;
  created: number;
  expiresAt: number;
  clientReferenceId: string | null;
  metadata: Record<string, string>;
  intentMetadata: Record<string, string>;
  name: string;
  successUrl: string;
  status: 'open' | 'complete' | 'expired';
  intent: string | null;
}

export interface Refund {
  id: string;
  intent: string;
  amount: number;
  created: number;
  metadata: Record<string, string>;
  status: string;
  failureReason: string | null;
  pendingReason: string | null;
}

export interface Dispute {
  id: string;
  intent: string;
  amount: number;
  created: number;
  status: string;
  reason: string;
  dueBy: number;
}

export interface Webhook {
  readonly url: string;
  readonly secret: string;
  readonly types: readonly string[] | undefined;
}

/** The result of the payer's action. `pay` explains the values. */
export type Outcome = 'paid' | 'processing' | 'declined' | (typeof NEXT_ACTIONS)[number];
/**
 * Next actions from Stripe's page about payment intents. The payer carries out the last one in the form, and the others
 * later and outside the form.
 */
export const NEXT_ACTIONS = [
  'boleto_display_details',
  'display_bank_transfer_instructions',
  'konbini_display_details',
  'multibanco_display_details',
  'oxxo_display_details',
  'verify_with_microdeposits',
  'use_stripe_sdk',
] as const;

/** The state that each requested refund gets, unless a test changes it. */
export interface RefundPlan {
  readonly status: string;
  readonly pendingReason?: string;
}

/** The state of the Stripe double. Its methods act as payers, banks and merchants. */
export class Books {
  url = '';
  /** The keys that the double accepts. It refuses all other keys. */
  secretKeys: ReadonlySet<string> = new Set(['sk_test_double', 'rk_test_double']);
  readonly sessions = new Map<string, Session>();
  readonly intents = new Map<string, Intent>();
  readonly refunds = new Map<string, Refund>();
  readonly disputes = new Map<string, Dispute>();
  readonly events: object[] = [];
  webhooks: Webhook[] = [];
  refundPlan: RefundPlan = { status: 'succeeded' };
  /** If true, the merchant's balance is too low for any refund. */
  isPoor = false;
  clockOffsetS = 0;
  #count = 0;

  now = (): number => Math.floor(Date.now() / 1000) + this.clockOffsetS;

  newId(prefix: string): string {
    this.#count += 1;
    return `${prefix}_test_${String(this.#count).padStart(4, '0')}${randomBytes(8).toString('hex')}`;
  }

  addIntent(of: Pick<Intent, 'amount' | 'currency' | 'description' | 'metadata' | 'session'>): Intent {
    const intent: Intent = {
      id: this.newId('pi'),
      created: this.now(),
      status: 'requires_payment_method',
      nextAction: null,
      charge: null,
      ...of,
    };
    this.intents.set(intent.id, intent);
    return intent;
  }

  /** Returns the session in its present state. If its expiry has passed, an open session becomes expired. */
  sessionOf(id: string): Session | undefined {
    const session = this.sessions.get(id);
    if (session?.status === 'open' && this.now() >= session.expiresAt) this.expire(session);
    return session;
  }

  expire(session: Session): void {
    session.status = 'expired';
    const intent = this.intents.get(session.intent ?? '');
    if (intent !== undefined && intent.status !== 'succeeded') intent.status = 'canceled';
    this.tell('checkout.session.expired', this.showSession(session));
  }

  /**
   * Pays as the payer does. The payer pays with a card (`paid`), with a card that is declined (`declined`), or with a
   * method whose result comes later (`processing`). Or the payer receives a voucher, transfer details or similar (the
   * type of a next action).
   */
  pay(target: Session | Intent, outcome: Outcome): void {
    if ('intent' in target) {
      if (target.status !== 'open') throw new Error(`${target.id} is ${target.status}`);
      const { amount, currency, name, intentMetadata: metadata } = target;
      const intent =
        this.intents.get(target.intent ?? '') ??
        this.addIntent({ amount, currency, description: name, metadata, session: target.id });
      target.intent = intent.id;
      if (outcome !== 'declined') target.status = 'complete';
      this.#payIntent(intent, outcome);
      if (outcome !== 'declined') this.tell('checkout.session.completed', this.showSession(target));
    } else {
      this.#payIntent(target, outcome);
    }
  }

  #payIntent(intent: Intent, outcome: Outcome): void {
    if (!['requires_payment_method', 'requires_action'].includes(intent.status)) {
      throw new Error(`${intent.id} is ${intent.status}`);
    }
    if (outcome === 'declined') {
      this.tell('payment_intent.payment_failed', this.showIntent(intent));
      return;
    }
    if (outcome !== 'paid' && outcome !== 'processing') {
      Object.assign(intent, { status: 'requires_action', nextAction: outcome });
      this.tell('payment_intent.requires_action', this.showIntent(intent));
      return;
    }
    intent.charge = { id: this.newId('ch'), created: this.now(), disputed: false };
    intent.status = outcome === 'paid' ? 'succeeded' : 'processing';
    this.tell(`payment_intent.${intent.status}`, this.showIntent(intent));
  }

  /** Decides a payment that is `processing`, as the bank does. Or pays with the voucher, as the payer does. */
  settle(intent: Intent, isPaid: boolean, received?: number): void {
    if (intent.status !== 'processing' && intent.nextAction === null)
      throw new Error(`${intent.id} is ${intent.status}`);
    intent.charge ??= { id: this.newId('ch'), created: this.now(), disputed: false };
    if (received !== undefined) intent.received = received;
    intent.nextAction = null;
    intent.status = isPaid ? 'succeeded' : 'requires_payment_method';
    this.tell(isPaid ? 'payment_intent.succeeded' : 'payment_intent.payment_failed', this.showIntent(intent));
    const session = this.sessions.get(intent.session ?? '');
    if (session === undefined) return;
    const what = isPaid ? 'async_payment_succeeded' : 'async_payment_failed';
    this.tell(`checkout.session.${what}`, this.showSession(session));
  }

  refundedOf = (intent: Intent): number =>
    [...this.refunds.values()]
      .filter((refund) => refund.intent === intent.id && !['failed', 'canceled'].includes(refund.status))
      .reduce((sum, { amount }) => sum + amount, 0);

  addRefund(intent: Intent, amount: number, metadata: Record<string, string>): Refund {
    const { status, pendingReason = null } = this.refundPlan;
    const refund: Refund = {
      id: this.newId('re'),
      intent: intent.id,
      amount,
      created: this.now(),
      metadata,
      status,
      failureReason: null,
      pendingReason,
    };
    this.refunds.set(refund.id, refund);
    this.tell('refund.created', this.showRefund(refund));
    this.tell('charge.refunded', this.showCharge(intent));
    return refund;
  }

  changeRefund(refund: Refund, status: string, failureReason: string | null): void {
    const previous = { status: refund.status };
    Object.assign(refund, { status, failureReason, pendingReason: null });
    this.tell('refund.updated', this.showRefund(refund), previous);
    if (status === 'failed') this.tell('refund.failed', this.showRefund(refund), previous);
  }

  addDispute(intent: Intent, status: string, dueBy: number, amount = intent.amount): Dispute {
    const dispute: Dispute = {
      id: this.newId('dp'),
      intent: intent.id,
      amount,
      created: this.now(),
      status,
      reason: 'fraudulent',
      dueBy,
    };
    this.disputes.set(dispute.id, dispute);
    if (intent.charge !== null) intent.charge.disputed = true;
    this.tell('charge.dispute.created', this.showDispute(dispute));
    return dispute;
  }

  changeDispute(dispute: Dispute, status: string): void {
    dispute.status = status;
    const isDecided = ['won', 'lost', 'warning_closed', 'prevented'].includes(status);
    this.tell(`charge.dispute.${isDecided ? 'closed' : 'updated'}`, this.showDispute(dispute));
  }

  /** Records an event, and sends it to the webhooks. */
  tell(type: string, object: object, previous?: object): void {
    const event = {
      id: this.newId('evt'),
      object: 'event',
      type,
      api_version: '2026-10-28.endive',
      created: this.now(),
      livemode: false,
      pending_webhooks: this.webhooks.length,
      request: { id: null, idempotency_key: null },
      data: { object, ...(previous === undefined ? {} : { previous_attributes: previous }) },
    };
    this.events.push(event);
    for (const webhook of this.webhooks) {
      if (webhook.types !== undefined && !webhook.types.includes(type)) continue;
      void this.deliver(webhook, event);
    }
  }

  /** @returns the status of the answer, or the reason why there was no answer */
  async deliver({ url, secret }: Webhook, event: object): Promise<number | string> {
    const body = JSON.stringify(event);
    try {
      const { status } = await fetch(url, {
        method: 'POST',
        headers: { 'content-type': 'application/json', 'stripe-signature': signatureOf(body, secret) },
        body,
      });
      return status;
    } catch (error) {
      return String(error);
    }
  }

  showCharge = (intent: Intent) => ({
    id: intent.charge?.id,
    object: 'charge',
    amount: intent.amount,
    amount_refunded: this.refundedOf(intent),
    created: intent.charge?.created,
    currency: intent.currency,
    disputed: intent.charge?.disputed,
    metadata: intent.metadata,
    payment_intent: intent.id,
    refunded: this.refundedOf(intent) >= intent.amount,
    status: intent.status === 'processing' ? 'pending' : 'succeeded',
  });

  showIntent = (intent: Intent, expand: readonly string[] = []) => ({
    id: intent.id,
    object: 'payment_intent',
    amount: intent.amount,
    amount_received: intent.status === 'succeeded' ? (intent.received ?? intent.amount) : 0,
    client_secret: `${intent.id}_secret_double`,
    created: intent.created,
    currency: intent.currency,
    description: intent.description,
    latest_charge:
      intent.charge === null
        ? null
        : expand.includes('latest_charge')
          ? this.showCharge(intent)
          : intent.charge.id,
    livemode: false,
    metadata: intent.metadata,
    next_action: intent.nextAction === null ? null : { type: intent.nextAction },
    status: intent.status,
  });

  showSession(session: Session, expand: readonly string[] = []) {
    const intent = this.intents.get(session.intent ?? '');
    const inner = expand
      .filter((path) => path.startsWith('payment_intent.'))
      .map((path) => path.slice('payment_intent.'.length));
    return {
      id: session.id,
      object: 'checkout.session',
      amount_total: session.amount,
      client_reference_id: session.clientReferenceId,
      created: session.created,
      currency: session.currency,
      expires_at: session.expiresAt,
      livemode: false,
      metadata: session.metadata,
      mode: 'payment',
      payment_intent:
        intent === undefined
          ? null
          : expand.includes('payment_intent')
            ? this.showIntent(intent, inner)
            : intent.id,
      payment_status: intent?.status === 'succeeded' ? 'paid' : 'unpaid',
      status: session.status,
      url: session.status === 'open' ? `${this.url}/pay/${session.id}` : null,
    };
  }

  showRefund(refund: Refund) {
    const intent = this.intents.get(refund.intent);
    return {
      id: refund.id,
      object: 'refund',
      amount: refund.amount,
      balance_transaction: refund.status === 'pending' ? null : `txn_${refund.id}`,
      charge: intent?.charge?.id ?? null,
      created: refund.created,
      currency: intent?.currency,
      metadata: refund.metadata,
      payment_intent: refund.intent,
      status: refund.status,
      ...(refund.failureReason === null ? {} : { failure_reason: refund.failureReason }),
      ...(refund.status === 'failed' ? { failure_balance_transaction: `txn_back_${refund.id}` } : {}),
      ...(refund.pendingReason === null ? {} : { pending_reason: refund.pendingReason }),
    };
  }

  showDispute(dispute: Dispute) {
    const intent = this.intents.get(dispute.intent);
    return {
      id: dispute.id,
      object: 'dispute',
      amount: dispute.amount,
      charge: intent?.charge?.id ?? null,
      created: dispute.created,
      currency: intent?.currency,
      evidence_details: { due_by: dispute.dueBy, has_evidence: false },
      livemode: false,
      metadata: {},
      payment_intent: dispute.intent,
      reason: dispute.reason,
      status: dispute.status,
    };
  }
}

/** Returns the header `Stripe-Signature` for a body, with the current time. */
function signatureOf(body: string, secret: string): string {
  const time = Math.floor(Date.now() / 1000);
  return `t=${time},v1=${createHmac('sha256', secret).update(`${time}.${body}`).digest('hex')}`;
}
