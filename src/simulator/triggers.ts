import type { Attention } from '../domain/attention.ts';
import type { OrderStatus, OrderUpdate, PaymentStatus, RefundStatus } from '../domain/states.ts';
import { SimulatorError } from './errors.ts';

/**
 * The triggers: words in the subject of a trade that make the wallet act, for example `Coffee [sim:paid
 * callback-lost]`. The simulator, the table in docs/sandbox.md (`npm run generate`) and the tests, which run each
 * example, use this one declaration. Triggers are words in brackets and not special amounts. No shop sells a product
 * with such a name, so no trigger acts by accident.
 */

/**
 * The time from a trade's creation or close to an automatic action of the wallet. All durations in this file are in
 * milliseconds.
 */
export const ACT_AFTER_MS = 2_000;
export const IN_PROCESS_MS = 15_000;
export const LATE_CALLBACK_MS = 15_000;
export const REFUND_MS = 15_000;

/** A subject has at most one trigger of each kind. */
export const TRIGGER_KINDS = ['payer', 'amount', 'callback', 'refund'] as const;
export type TriggerKind = (typeof TRIGGER_KINDS)[number];

/** The final state that the example of a trigger reaches. */
export interface TriggerOutcome {
  readonly payment: PaymentStatus;
  readonly orderUpdate: OrderUpdate | null;
  readonly attention: Attention | null;
  readonly order: OrderStatus;
  /** The state of the refund, which the merchant requests or nodrop makes automatically. Null if there is none. */
  readonly refund: RefundStatus | null;
  /** The minimum number of callbacks that the wallet sends. 0 means that it sends none. */
  readonly callbacks: number;
}

export interface TriggerDeclaration {
  readonly kind: TriggerKind;
  /**
   * Says in each language what the wallet does with this trigger. The wallet page uses the texts in both languages, and
   * the table in the documentation uses the English text.
   */
  readonly does: Readonly<Record<'en' | 'zh', string>>;
  readonly example: {
    /** The part of the example's subject that contains the triggers. */
    readonly subject: string;
    /** `expiresInSeconds` of the example's payment and order. */
    readonly expiresInSeconds?: number;
    /** True if the merchant requests a refund once the payment has paid the order. */
    readonly asksForRefund?: boolean;
    readonly outcome: TriggerOutcome;
  };
}

const seconds = (ms: number): string => `${ms / 1000} s`;
const secondsZh = (ms: number): string => `${ms / 1000} 秒`;

const PAID: TriggerOutcome = {
  payment: 'succeeded',
  orderUpdate: 'applied',
  attention: null,
  order: 'succeeded',
  refund: null,
  callbacks: 1,
};

export const TRIGGERS = {
  paid: {
    kind: 'payer',
    does: {
      en: `Pays automatically, ${seconds(ACT_AFTER_MS)} after the trade is created.`,
      zh: `交易创建 ${secondsZh(ACT_AFTER_MS)}后自动支付。`,
    },
    example: { subject: 'paid', outcome: PAID },
  },
  declined: {
    kind: 'payer',
    does: {
      en: `Declines automatically, after ${seconds(ACT_AFTER_MS)}.`,
      zh: `${secondsZh(ACT_AFTER_MS)}后自动拒绝支付。`,
    },
    example: {
      subject: 'declined',
      outcome: { ...PAID, payment: 'failed', orderUpdate: null, order: 'unpaid' },
    },
  },
  'in-process': {
    kind: 'payer',
    does: {
      en: `Is in process after ${seconds(ACT_AFTER_MS)}, and paid ${seconds(IN_PROCESS_MS)} later.`,
      zh: `${secondsZh(ACT_AFTER_MS)}后进入处理中，再过 ${secondsZh(IN_PROCESS_MS)}支付成功。`,
    },
    example: { subject: 'in-process', outcome: PAID },
  },
  'paid-after-close': {
    kind: 'payer',
    does: {
      en: `The channel confirms the close, but the payer still pays ${seconds(ACT_AFTER_MS)} later.`,
      zh: `关闭请求答复为成功，但 ${secondsZh(ACT_AFTER_MS)}后仍然支付。`,
    },
    example: {
      subject: 'paid-after-close',
      expiresInSeconds: 5,
      outcome: {
        ...PAID,
        orderUpdate: 'conflict',
        order: 'closed',
        refund: 'succeeded',
        callbacks: 2,
      },
    },
  },
  'wrong-amount': {
    kind: 'amount',
    does: {
      en: 'Charges one minor unit less than the amount. Needs an amount of 2 or more.',
      zh: '实收金额比应付少一个最小货币单位。金额须不小于 2 个最小单位。',
    },
    example: {
      subject: 'paid wrong-amount',
      outcome: { ...PAID, orderUpdate: 'review', attention: 'amount_mismatch', order: 'paying' },
    },
  },
  'callback-lost': {
    kind: 'callback',
    does: {
      en: 'Sends no callbacks, neither for the payment nor for its refunds.',
      zh: '不发送任何回调，包括支付回调和退款回调。',
    },
    example: { subject: 'paid callback-lost', outcome: { ...PAID, callbacks: 0 } },
  },
  'callback-late': {
    kind: 'callback',
    does: {
      en: `Sends each callback ${seconds(LATE_CALLBACK_MS)} late.`,
      zh: `每个回调都延迟 ${secondsZh(LATE_CALLBACK_MS)}发送。`,
    },
    example: { subject: 'paid callback-late', outcome: PAID },
  },
  'callback-doubled': {
    kind: 'callback',
    does: {
      en: 'Sends each callback twice, both at the same time.',
      zh: '每个回调同时发送两次。',
    },
    example: { subject: 'paid callback-doubled', outcome: { ...PAID, callbacks: 2 } },
  },
  'refund-refused': {
    kind: 'refund',
    does: {
      en: 'Refuses every refund, permanently.',
      zh: '拒绝所有退款，不再受理。',
    },
    example: {
      subject: 'paid refund-refused',
      asksForRefund: true,
      outcome: { ...PAID, refund: 'failed' },
    },
  },
  'refund-in-process': {
    kind: 'refund',
    does: {
      en: `Keeps each refund in process for ${seconds(REFUND_MS)}.`,
      zh: `每笔退款处理中 ${secondsZh(REFUND_MS)}。`,
    },
    example: {
      subject: 'paid refund-in-process',
      asksForRefund: true,
      outcome: { ...PAID, order: 'refunded', refund: 'succeeded', callbacks: 2 },
    },
  },
  'refund-silent': {
    kind: 'refund',
    does: {
      en: `Accepts each refund, but answers nothing about it for ${seconds(REFUND_MS)}.`,
      zh: `受理每笔退款，但 ${secondsZh(REFUND_MS)}内不给出任何答复。`,
    },
    example: {
      subject: 'paid refund-silent',
      asksForRefund: true,
      outcome: { ...PAID, order: 'refunded', refund: 'succeeded', callbacks: 2 },
    },
  },
} as const satisfies Record<string, TriggerDeclaration>;

export type Trigger = keyof typeof TRIGGERS;
export const TRIGGER_NAMES = Object.keys(TRIGGERS) as Trigger[];

const BEGINS = /\[sim:/gi;
const WHOLE = /\[sim:([^[\]]*)\]/i;

/**
 * Returns the triggers in a trade's subject. A subject without `[sim:` has none.
 * @throws SimulatorError 400 `PARAM_ERROR` for an unknown or misplaced trigger, because a test must not pass without
 *   its trigger.
 */
export function readTriggers(subject: string, amount: number): readonly Trigger[] {
  const count = subject.match(BEGINS)?.length ?? 0;
  if (count === 0) return [];
  const words =
    WHOLE.exec(subject)?.[1]
      ?.split(/[\s,]+/)
      .filter((word) => word !== '') ?? [];
  if (count > 1 || words.length === 0)
    throw refused('triggers are given once, as in [sim:paid callback-lost]');
  const triggers = words.map((word) => {
    const name = TRIGGER_NAMES.find((one) => one === word.toLowerCase());
    if (name === undefined)
      throw refused(`there is no trigger ${word}, the triggers are ${TRIGGER_NAMES.join(', ')}`);
    return name;
  });
  for (const kind of TRIGGER_KINDS) {
    const [first, second] = triggers.filter((name) => TRIGGERS[name].kind === kind);
    if (second !== undefined) throw refused(`${first} and ${second} cannot be combined, give one of them`);
  }
  if (triggers.includes('wrong-amount') && amount < 2)
    throw refused('wrong-amount needs an amount of 2 or more');
  return triggers;
}

const refused = (message: string) => new SimulatorError(400, 'PARAM_ERROR', `subject: ${message}.`);
