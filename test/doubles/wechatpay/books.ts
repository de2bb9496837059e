import { randomBytes } from 'node:crypto';
import type { CertifiedKey } from './keys.ts';

/** A merchant account, or a service provider's account with its sub-merchants. */
export interface Merchant {
  readonly mchid: string;
  readonly appids: readonly string[];
  readonly subMchids: readonly string[];
  readonly key: CertifiedKey;
  readonly apiV3Key: string;
  /** This field is set in public-key mode. */
  readonly publicKeyId: string | null;
  /** The address for refund callbacks that the merchant has set at the merchant platform. */
  refundNotifyUrl: string | null;
}

export interface Order {
  readonly merchant: Merchant;
  readonly subMchid: string | null;
  readonly method: string;
  /** The complete request that created the order. */
  readonly asked: string;
  readonly outTradeNo: string;
  readonly appid: string;
  readonly total: number;
  readonly currency: string;
  readonly notifyUrl: string;
  readonly createdAt: number;
  readonly payableUntil: number;
  state: string;
  transactionId: string | null;
  paidAt: number | null;
  payerTotal: number | null;
}

export interface Refund {
  readonly id: string;
  readonly order: Order;
  readonly outRefundNo: string;
  readonly amount: number;
  /** If set, refund callbacks go to this address instead of the address that is set at the merchant platform. */
  readonly notifyUrl: string | null;
  readonly createdAt: number;
  status: string;
  finishedAt: number | null;
}

/** A time in RFC 3339 format in China's time zone. */
export const inChina = (at: number): string =>
  `${new Date(at + 8 * 3_600_000).toISOString().slice(0, 19)}+08:00`;

/** The state of the WeChat Pay double. */
export class Books {
  readonly merchants = new Map<string, Merchant>();
  readonly orders = new Map<string, Order>();
  readonly refunds = new Map<string, Refund>();
  /** The platform keys with certificates. The last key makes the signatures. */
  platform: CertifiedKey[] = [];
  /** The keys that sign in public-key mode. */
  publicKeys = new Map<string, CertifiedKey>();
  /** How far the double's clock is ahead of the real time. */
  clockOffsetMs = 0;
  /**
   * The times of orders and refunds are this many ms ahead of the double's clock. Signatures use the double's clock.
   */
  bookOffsetMs = 0;
  refundsBecome = 'SUCCESS';
  reopensClosedRefunds = true;
  hasEnough = true;
  #count = 0;

  /** The time that the double uses for signatures. */
  signedAt = (): number => Date.now() + this.clockOffsetMs;
  now = (): number => this.signedAt() + this.bookOffsetMs;

  newId(): string {
    this.#count += 1;
    return `${Date.now()}${String(this.#count).padStart(6, '0')}${randomBytes(4).readUInt32BE()}`.slice(
      0,
      32,
    );
  }

  refundsOf = (order: Order): readonly Refund[] =>
    [...this.refunds.values()].filter((refund) => refund.order === order);

  /** The amount that was refunded to the payer or is on its way to the payer. */
  refundedOf = (order: Order): number =>
    this.refundsOf(order)
      .filter(({ status }) => status === 'PROCESSING' || status === 'SUCCESS')
      .reduce((sum, { amount }) => sum + amount, 0);

  /** @returns false if the order can no longer be paid */
  pay(order: Order, payerTotal: number | null): boolean {
    if (!['NOTPAY', 'USERPAYING', 'PAYERROR'].includes(order.state)) return false;
    if (this.now() > order.payableUntil) return false;
    order.state = 'SUCCESS';
    order.transactionId = `42000${this.newId()}`.slice(0, 32);
    order.paidAt = this.now();
    order.payerTotal = payerTotal ?? order.total;
    return true;
  }

  addRefund(order: Order, outRefundNo: string, amount: number, notifyUrl: string | null = null): Refund {
    const refund: Refund = {
      id: `50300${this.newId()}`.slice(0, 32),
      ...{ order, outRefundNo, amount, notifyUrl, status: 'PROCESSING' },
      createdAt: this.now(),
      finishedAt: null,
    };
    this.refunds.set(`${order.merchant.mchid} ${outRefundNo}`, refund);
    order.state = 'REFUND';
    return refund;
  }

  /** Gives each refund that is in process its final state, and returns these refunds. */
  finishRefunds(): readonly Refund[] {
    const open = [...this.refunds.values()].filter(({ status }) => status === 'PROCESSING');
    for (const refund of open) {
      refund.status = this.refundsBecome;
      refund.finishedAt = this.now();
    }
    return open;
  }

  /**
   * Every order with its amounts, as the books record them. The double may report other amounts. Amounts are in fen,
   * times in ISO 8601.
   */
  ledger = () =>
    [...this.orders.values()].map((order) => ({
      outTradeNo: order.outTradeNo,
      amount: order.total,
      currency: order.currency,
      state: order.state,
      paidAt: order.paidAt === null ? null : new Date(order.paidAt).toISOString(),
      refunded: this.refundsOf(order)
        .filter(({ status }) => status === 'SUCCESS')
        .reduce((sum, { amount }) => sum + amount, 0),
    }));

  partiesOf = ({ merchant, subMchid, appid }: Order) =>
    subMchid === null
      ? { mchid: merchant.mchid, appid }
      : { sp_mchid: merchant.mchid, sub_mchid: subMchid, sp_appid: appid };

  showOrder = (order: Order) => ({
    ...this.partiesOf(order),
    out_trade_no: order.outTradeNo,
    ...(order.transactionId === null ? {} : { transaction_id: order.transactionId }),
    trade_type: { native: 'NATIVE', h5: 'MWEB', jsapi: 'JSAPI', app: 'APP' }[order.method],
    trade_state: order.state,
    trade_state_desc: '说明',
    ...(order.paidAt === null ? {} : { success_time: inChina(order.paidAt) }),
    ...(order.paidAt === null
      ? {}
      : {
          payer: { openid: 'o-double' },
          amount: {
            total: order.total,
            payer_total: order.payerTotal,
            currency: order.currency,
            payer_currency: order.currency,
          },
        }),
  });

  showRefund = ({ id, order, outRefundNo, amount, createdAt, finishedAt, status }: Refund) => ({
    refund_id: id,
    out_refund_no: outRefundNo,
    transaction_id: order.transactionId,
    out_trade_no: order.outTradeNo,
    channel: 'ORIGINAL',
    user_received_account: '支付用户零钱',
    ...(status === 'SUCCESS' && finishedAt !== null ? { success_time: inChina(finishedAt) } : {}),
    create_time: inChina(createdAt),
    status,
    amount: {
      total: order.total,
      refund: amount,
      payer_total: order.payerTotal,
      payer_refund: amount,
      currency: order.currency,
    },
  });
}
