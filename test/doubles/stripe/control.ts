import { z } from 'zod';
import { type Books, NEXT_ACTIONS } from './books.ts';
import { FAULTS, type Faults } from './faults.ts';
import { type Answer, json, type ReadPayment } from './http.ts';
import type { Keys } from './keys.ts';

interface Parts {
  readonly books: Books;
  readonly faults: Faults;
  readonly keys: Keys;
  readonly seen: ReadPayment[];
}

/** All commands of /_control with their arguments. */
export const COMMANDS = {
  pay: z.object({ id: z.string(), outcome: z.enum(['paid', 'processing', 'declined', ...NEXT_ACTIONS]) }),
  settle: z.object({ payment: z.string(), paid: z.boolean(), received: z.int().optional() }),
  dashboardRefund: z.object({ payment: z.string(), amount: z.int() }),
  changeRefund: z.object({ id: z.string(), status: z.string(), failureReason: z.string().nullable() }),
  refundPlan: z.object({ status: z.string(), pendingReason: z.string().optional() }),
  balance: z.object({ isPoor: z.boolean() }),
  dispute: z.object({
    ...{ payment: z.string(), status: z.string(), dueBy: z.int() },
    amount: z.int().optional(),
  }),
  changeDispute: z.object({ id: z.string(), status: z.string() }),
  faults: z.array(z.object({ kind: z.enum(FAULTS), of: z.string(), times: z.int().default(1) })),
  pruneKeys: z.object({}),
  secretKeys: z.array(z.string()),
  clock: z.object({ offsetS: z.int() }),
  webhooks: z.array(z.object({ url: z.string(), secret: z.string(), types: z.array(z.string()).optional() })),
  requests: z.object({}),
  events: z.object({}),
  state: z.object({}),
} as const;

export type Command = keyof typeof COMMANDS;

/** Runs a command and answers with its result. */
export function control(parts: Parts, method: string, path: string, body: string): Answer {
  const name = path.slice('/_control/'.length);
  if (method !== 'POST' || !Object.hasOwn(COMMANDS, name)) return json(404, { error: path });
  try {
    return json(200, run(parts, name as Command, JSON.parse(body === '' ? '{}' : body)) ?? {});
  } catch (error) {
    return json(400, { error: String(error) });
  }
}

function run({ books, faults, keys, seen }: Parts, name: Command, given: unknown): unknown {
  const need = <T>(found: T | undefined): T => {
    if (found === undefined) throw new Error('no such object');
    return found;
  };
  switch (name) {
    case 'pay': {
      const { id, outcome } = COMMANDS.pay.parse(given);
      const target = need(books.sessionOf(id) ?? books.intents.get(id));
      books.pay(target, outcome);
      return { payment: 'intent' in target ? target.intent : target.id };
    }
    case 'settle': {
      const { payment, paid, received } = COMMANDS.settle.parse(given);
      return books.settle(need(books.intents.get(payment)), paid, received);
    }
    case 'dashboardRefund': {
      const { payment, amount } = COMMANDS.dashboardRefund.parse(given);
      return books.addRefund(need(books.intents.get(payment)), amount, {});
    }
    case 'changeRefund': {
      const { id, status, failureReason } = COMMANDS.changeRefund.parse(given);
      return books.changeRefund(need(books.refunds.get(id)), status, failureReason);
    }
    case 'refundPlan': {
      const { status, pendingReason } = COMMANDS.refundPlan.parse(given);
      books.refundPlan = { status, ...(pendingReason === undefined ? {} : { pendingReason }) };
      return undefined;
    }
    case 'balance':
      books.isPoor = COMMANDS.balance.parse(given).isPoor;
      return undefined;
    case 'dispute': {
      const { payment, status, dueBy, amount } = COMMANDS.dispute.parse(given);
      return books.addDispute(need(books.intents.get(payment)), status, dueBy, amount);
    }
    case 'changeDispute': {
      const { id, status } = COMMANDS.changeDispute.parse(given);
      return books.changeDispute(need(books.disputes.get(id)), status);
    }
    case 'faults':
      return faults.set(COMMANDS.faults.parse(given));
    case 'pruneKeys':
      return keys.prune();
    case 'secretKeys':
      books.secretKeys = new Set(COMMANDS.secretKeys.parse(given));
      return undefined;
    case 'clock':
      books.clockOffsetS = COMMANDS.clock.parse(given).offsetS;
      return undefined;
    case 'webhooks':
      books.webhooks = COMMANDS.webhooks.parse(given).map(({ types, ...hook }) => ({ ...hook, types }));
      return undefined;
    case 'requests':
      return seen.splice(0);
    case 'events':
      return books.events;
    case 'state':
      return {
        sessions: [...books.sessions.values()],
        intents: [...books.intents.values()],
        refunds: [...books.refunds.values()],
        disputes: [...books.disputes.values()],
      };
  }
}
