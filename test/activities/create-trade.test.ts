import { MockActivityEnvironment } from '@temporalio/testing';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { channelActivities } from '../../src/activities/channel.ts';
import { createSimulatorAdapter } from '../../src/channels/simulator/adapter.ts';
import type { ChannelAdapter } from '../../src/domain/channel.ts';
import { createLedgerClient, type LedgerClient } from '../../src/ledger/client.ts';
import { startPayment } from '../../src/ledger/intake.ts';
import { ensureMerchant } from '../../src/ledger/merchants.ts';
import type { Payment } from '../../src/ledger/rows.ts';
import { type FreshDatabase, freshDatabase } from '../support/stack.ts';

/** Creating a trade while the database is slow: no request goes to the channel once the payment has expired. */

let database: FreshDatabase;
let db: LedgerClient;
let merchantId: string;
beforeAll(async () => {
  database = await freshDatabase();
  db = createLedgerClient(database.url);
  merchantId = (await ensureMerchant(db, 'shop', ['simulator'])).merchant.id;
});
afterAll(async () => {
  await db?.$disconnect();
  await database?.drop();
});

const AT = Date.UTC(2026, 10, 27);
const EXPIRES_IN_MS = 600_000;

let orders = 0;
async function newPayment(): Promise<Payment> {
  orders += 1;
  const order = { amount: 1000, currency: 'CNY', subject: 'x', metadata: {}, expiresInSeconds: undefined };
  const { payment } = await startPayment(
    db,
    merchantId,
    { ...order, id: `order-${orders}` },
    {
      channel: 'simulator',
      method: 'wallet',
      payer: undefined,
      returnUrl: undefined,
      metadata: {},
      expiresInMs: EXPIRES_IN_MS,
      askedAttempts: new Set<string>(),
    },
    () => `hash-${orders}`,
    new Date(AT),
  );
  return payment;
}

/** Creates the trade of a new payment, with a row that has been read so long after it was made. */
async function create(readAfterMs: number) {
  let clock = AT;
  let requests = 0;
  const channel: ChannelAdapter = {
    ...createSimulatorAdapter({ name: 'simulator', baseUrl: 'http://127.0.0.1:9', secret: 'whsec_AAAA' }),
    async createTrade() {
      requests += 1;
      return { action: { type: 'redirect', url: 'https://wallet.example/' } };
    },
  };
  const payment = new Proxy(db.payment, {
    get: (target, name) =>
      name === 'findUniqueOrThrow'
        ? async (args: { where: { id: string } }) => {
            const row = await target.findUniqueOrThrow(args);
            clock = AT + readAfterMs;
            return row;
          }
        : Reflect.get(target, name),
  });
  const { createAtChannel } = channelActivities({
    db: new Proxy(db, {
      get: (target, name) => (name === 'payment' ? payment : Reflect.get(target, name)),
    }),
    channels: new Map([['simulator', channel]]),
    publicUrl: 'http://127.0.0.1:9',
    secret: 'a secret of at least 32 characters',
    deliveryWorkflows: { start: async () => {}, redeliverWaiting: async () => {} },
    workflows: { wake: async () => {} },
    now: async () => new Date(clock),
  });
  const { id } = await newPayment();
  const outcome = await new MockActivityEnvironment()
    .run(createAtChannel, id)
    .catch((error: unknown) => error);
  const { status } = await db.payment.findUniqueOrThrow({ where: { id } });
  return { requests, outcome, status };
}

test('a row that was read before the expiry: the trade is created', async () => {
  expect(await create(EXPIRES_IN_MS - 1)).toMatchObject({ requests: 1, status: 'paying' });
});

test('a slow row, read across the expiry: nothing is created, and the outcome is unknown', async () => {
  const { requests, outcome, status } = await create(EXPIRES_IN_MS);
  expect(requests).toBe(0);
  expect(outcome).toMatchObject({ name: 'ApplicationFailure', nonRetryable: false });
  expect(status).toBe('created');
});
