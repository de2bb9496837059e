import { z } from 'zod';
import type { Answer } from '../../channels/contract/http.ts';
import { type Books, FAULTS } from './books.ts';

const payment = z.string();

/** All commands of /_control with their arguments. */
export const COMMANDS = {
  /** Resets the double to its initial state. Its clock then has the time of this machine. */
  reset: z.object({}),
  /** The profile of each API key. */
  keys: z.record(z.string(), z.string()),
  methods: z.array(z.string()),
  clock: z.object({ offsetMs: z.number() }),
  become: z.object({
    payment,
    status: z.enum(['pending', 'authorized', 'paid', 'canceled', 'expired', 'failed']),
  }),
  cancelable: z.object({ payment, is: z.boolean() }),
  refundPlan: z.object({ becomes: z.enum(['refunded', 'queued', 'failed', 'canceled']) }),
  finishRefunds: z.object({}),
  changeRefund: z.object({
    refund: z.string(),
    status: z.enum(['pending', 'refunded', 'failed', 'canceled']),
  }),
  /** Refunds a payment as the merchant does in the dashboard. */
  dashboardRefund: z.object({ payment, amount: z.int() }),
  chargeback: z.object({ payment, amount: z.int().optional() }),
  reverse: z.object({ chargeback: z.string() }),
  /** Creates a payment, as code other than nodrop does with the same key. */
  foreignPayment: z.object({ amount: z.int(), metadata: z.unknown() }),
  faults: z.array(z.object({ kind: z.enum(FAULTS), of: z.string(), times: z.int().default(1) })),
  pruneKeys: z.object({}),
  /** Sets whether the double calls webhooks. It records each call even if it does not make the call. */
  webhooks: z.object({ called: z.boolean() }),
  /** Returns the webhook calls so far. */
  calls: z.object({}),
  /** Returns the requests that arrived since this command last ran. */
  requests: z.object({}),
  state: z.object({}),
} as const;

export type Command = keyof typeof COMMANDS;

/** Runs a command and answers with its result. */
export function control(books: Books, path: string, body: string): Answer {
  const headers = { 'content-type': 'application/json' };
  const name = path.slice('/_control/'.length);
  try {
    if (!Object.hasOwn(COMMANDS, name)) throw new Error('unknown command');
    const said = run(books, name as Command, JSON.parse(body === '' ? '{}' : body));
    return { status: 200, headers, body: JSON.stringify(said ?? {}) };
  } catch (error) {
    return { status: 400, headers, body: JSON.stringify({ error: String(error) }) };
  }
}

function need<T>(found: T | undefined): T {
  if (found === undefined) throw new Error('no such object');
  return found;
}

function run(books: Books, name: Command, given: unknown): unknown {
  const paymentIn = (of: { readonly payment: string }) => need(books.paymentOf(of.payment));
  switch (name) {
    case 'reset':
      return books.reset();
    case 'keys':
      books.keys = COMMANDS.keys.parse(given);
      return undefined;
    case 'methods':
      books.methods = COMMANDS.methods.parse(given);
      return undefined;
    case 'clock':
      books.clockOffsetMs = COMMANDS.clock.parse(given).offsetMs;
      return undefined;
    case 'become': {
      const of = COMMANDS.become.parse(given);
      return books.change(paymentIn(of), of.status);
    }
    case 'cancelable': {
      const of = COMMANDS.cancelable.parse(given);
      paymentIn(of).isCancelable = of.is;
      return undefined;
    }
    case 'refundPlan':
      books.refundPlan = COMMANDS.refundPlan.parse(given).becomes;
      return undefined;
    case 'finishRefunds':
      return books.finishRefunds();
    case 'changeRefund': {
      const { refund, status } = COMMANDS.changeRefund.parse(given);
      return books.changeRefund(need(books.refunds.get(refund)), status);
    }
    case 'dashboardRefund': {
      const of = COMMANDS.dashboardRefund.parse(given);
      return books.addRefund(paymentIn(of), of.amount, null);
    }
    case 'chargeback': {
      const of = COMMANDS.chargeback.parse(given);
      return books.addChargeback(paymentIn(of), of.amount);
    }
    case 'reverse':
      return books.reverse(need(books.chargebacks.get(COMMANDS.reverse.parse(given).chargeback)));
    case 'foreignPayment': {
      const { amount, metadata } = COMMANDS.foreignPayment.parse(given);
      return books.addPayment({
        ...{ profile: 'pfl_ours', mode: 'test', amount, currency: 'EUR', metadata, method: 'ideal' },
        ...{ description: 'Order 66', redirectUrl: 'https://shop.example/', webhookUrl: null },
      });
    }
    case 'faults':
      return books.setFaults(COMMANDS.faults.parse(given));
    case 'pruneKeys':
      return books.stored.clear();
    case 'webhooks':
      books.callsWebhooks = COMMANDS.webhooks.parse(given).called;
      return undefined;
    case 'calls':
      return books.calls;
    case 'requests':
      return books.requests.splice(0);
    case 'state':
      return {
        payments: [...books.payments.keys()].map((id) => books.paymentOf(id)),
        refunds: [...books.refunds.values()],
        chargebacks: [...books.chargebacks.values()],
      };
  }
}
