import { z } from 'zod';
import type { Books, Order } from './books.ts';
import type { CallbackPlan, Caller } from './caller.ts';
import { makeKey } from './keys.ts';

/** A fault of the next requests. */
export const faultSchema = z.object({
  kind: z.enum([
    ...(['status', 'silent', 'acts, then silent', 'nonsense', 'wrong signature', 'unknown serial'] as const),
    ...(['unsigned', 'old', 'other certificates', 'tampered certificates'] as const),
  ]),
  /** The fault applies to requests whose method and path contain this text. */
  to: z.string().default(''),
  times: z.int().default(1),
  status: z.int().default(500),
  code: z.string().default('SYSTEM_ERROR'),
});
export type Fault = z.infer<typeof faultSchema>;

const named = { outTradeNo: z.string() };
const trade = z.object(named);
const nothing = z.object({});

/** Commands that act as payers, merchants or WeChat Pay, and commands that set faults. */
export const COMMANDS = {
  books: trade,
  /** Returns all orders with their money. */
  ledger: nothing,
  pay: z.object({ ...named, payerTotal: z.int().optional() }),
  /** An order also has the state `NOTPAY` after a failed payment. */
  setState: z.object({ ...named, state: z.string() }),
  refundAtPlatform: z.object({ ...named, amount: z.int() }),
  finishRefunds: nothing,
  /** Handles the abnormal refunds as the merchant does at the merchant platform. They are then in process again. */
  handleRefunds: nothing,
  rules: z.object({
    refundsBecome: z.enum(['SUCCESS', 'CLOSED', 'ABNORMAL', 'PROCESSING']).optional(),
    reopensClosedRefunds: z.boolean().optional(),
    hasEnough: z.boolean().optional(),
    clockOffsetMs: z.int().optional(),
    bookOffsetMs: z.int().optional(),
    callbacks: z.enum(['sent', 'lost', 'held', 'doubled']).optional(),
  }),
  /** Sends the callbacks that were held back. */
  release: nothing,
  refundNotifyUrl: z.object({ mchid: z.string(), url: z.string().nullable() }),
  sendUnrelated: z.object({ mchid: z.string(), url: z.string() }),
  fault: faultSchema,
  /** Sets new faults. They replace all remaining faults. */
  faults: z.object({ faults: z.array(faultSchema) }),
  /** Makes a new platform certificate, whose key signs from now on. The older certificates are still listed. */
  rotate: nothing,
  /** Removes the older certificates from the list. The key of the newest certificate signs. */
  retire: nothing,
  /** Lets the key of the older certificate sign again. */
  signWithOldest: nothing,
  /** Creates a callback without sending it. */
  callback: z.object({
    ...named,
    content: z.record(z.string(), z.unknown()).default({}),
    eventType: z.string().default('TRANSACTION.SUCCESS'),
    atOffsetMs: z.int().default(0),
    apiV3Key: z.string().optional(),
  }),
  /** Returns the signature headers for a body that was created elsewhere. */
  sign: z.object({ mchid: z.string(), body: z.string(), atMs: z.int() }),
  seen: nothing,
} as const;
export type Command = keyof typeof COMMANDS;

export interface Double {
  readonly books: Books;
  readonly caller: Caller;
  readonly faults: Fault[];
  readonly seen: { readonly method: string; readonly path: string; readonly body: string }[];
}

export async function control(double: Double, name: string, body: string): Promise<unknown> {
  if (!Object.hasOwn(COMMANDS, name)) throw new Error(`unknown command ${name}`);
  const { books, caller, faults, seen } = double;
  const command = name as Command;
  const raw = JSON.parse(body === '' ? '{}' : body) as unknown;
  const given = <C extends Command>(of: C) => COMMANDS[of].parse(raw) as z.infer<(typeof COMMANDS)[C]>;
  const orderOf = (): Order => {
    const { outTradeNo } = trade.parse(raw);
    const order = [...books.orders.values()].find((one) => one.outTradeNo === outTradeNo);
    if (order === undefined) throw new Error(`there is no order ${outTradeNo}`);
    return order;
  };
  switch (command) {
    case 'books': {
      const { outTradeNo } = given('books');
      const all = [...books.orders.values()].filter((one) => one.outTradeNo === outTradeNo);
      const refunded = all.reduce((sum, order) => sum + books.refundedOf(order), 0);
      return { trades: all.length, total: all[0]?.total, currency: all[0]?.currency, refunded };
    }
    case 'ledger':
      return books.ledger();
    case 'pay': {
      const order = orderOf();
      const isPaid = books.pay(order, given('pay').payerTotal ?? null);
      if (isPaid) caller.tellOfOrder(order);
      return isPaid;
    }
    case 'setState':
      orderOf().state = given('setState').state;
      return true;
    case 'refundAtPlatform':
      books.addRefund(orderOf(), `platform_${books.newId()}`, given('refundAtPlatform').amount);
      return true;
    case 'finishRefunds':
      for (const refund of books.finishRefunds()) caller.tellOfRefund(refund);
      return true;
    case 'handleRefunds':
      for (const refund of books.refunds.values())
        if (refund.status === 'ABNORMAL') refund.status = 'PROCESSING';
      return true;
    case 'rules': {
      const { callbacks, ...rules } = given('rules');
      Object.assign(
        books,
        Object.fromEntries(Object.entries(rules).filter(([, value]) => value !== undefined)),
      );
      if (callbacks !== undefined) caller.plan = callbacks satisfies CallbackPlan;
      return true;
    }
    case 'release':
      caller.release();
      return true;
    case 'refundNotifyUrl': {
      const { mchid, url } = given('refundNotifyUrl');
      const merchant = books.merchants.get(mchid);
      if (merchant !== undefined) merchant.refundNotifyUrl = url;
      return true;
    }
    case 'sendUnrelated': {
      const { mchid, url } = given('sendUnrelated');
      const merchant = books.merchants.get(mchid);
      if (merchant !== undefined) caller.send(merchant, url, 'PAYSCORE.USER_OPEN_SERVICE', { mchid });
      return true;
    }
    case 'fault':
      faults.push(given('fault'));
      return true;
    case 'faults':
      faults.splice(0, faults.length, ...given('faults').faults);
      return true;
    case 'rotate':
      books.platform.push(makeKey('platform'));
      return books.platform.at(-1)?.serial;
    case 'retire':
      books.platform = books.platform.slice(-1);
      return true;
    case 'signWithOldest':
      books.platform.reverse();
      return true;
    case 'callback': {
      const { content, eventType, atOffsetMs, apiV3Key } = given('callback');
      const order = orderOf();
      return await caller.make(
        order.merchant,
        eventType,
        { ...books.showOrder(order), ...content },
        { atMs: books.signedAt() + atOffsetMs, apiV3Key },
      );
    }
    case 'sign': {
      const { mchid, body: text, atMs } = given('sign');
      const merchant = books.merchants.get(mchid);
      return merchant === undefined ? null : await caller.sign(merchant, text, atMs);
    }
    case 'seen':
      return seen;
  }
}
