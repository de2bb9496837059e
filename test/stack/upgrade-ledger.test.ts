// Tests the migration of a ledger that an older release wrote, with payments in every state. That release had no named
// accounts and no trade references.
import { WorkflowNotFoundError } from '@temporalio/client';
import { MockActivityEnvironment } from '@temporalio/testing';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { ActivityDeps } from '../../src/activities/activity-deps.ts';
import { channelActivities } from '../../src/activities/channel.ts';
import { refundChannelActivities } from '../../src/activities/refund.ts';
import { type SweepDeps, sweepActivities } from '../../src/activities/sweep.ts';
import { createChannels } from '../../src/channels/registry.ts';
import { listAccounts, readCredentials, storeConfigured } from '../../src/ledger/channel-accounts.ts';
import { createLedgerClient, isConstraintViolation, type LedgerClient } from '../../src/ledger/client.ts';
import { Connection } from '../../src/ledger/connection.ts';
import { CredentialsCache } from '../../src/ledger/credentials-cache.ts';
import { createApiKey, findMerchants } from '../../src/ledger/merchants.ts';
import { openSecret } from '../../src/order-service/secrets.ts';
import { applyMigrations } from '../../src/stack/migrate.ts';
import {
  SECRET,
  StandInDeliveryWorkflows,
  StandInRefundWorkflows,
  StandInWorkflows,
  simulatorCallback,
  startTestApi,
} from '../api/support.ts';
import { newTrade, SECRETS, start } from '../simulator/support.ts';
import { type FreshDatabase, freshDatabase, queryOnce } from '../support/stack.ts';
import {
  type Columns,
  FIRST_NEW,
  OLD_SIGNING_SECRET,
  oldDatabase,
  type Row,
  rowsOf,
  schemaOf,
  scripts,
  unsound,
  writeLedger,
} from './old-ledger.ts';

describe('a ledger of the older release that has been migrated', () => {
  let database: FreshDatabase;
  let columns: Columns;
  let before: Map<string, Row[]>;
  let db: LedgerClient;
  beforeAll(async () => {
    ({ database, columns } = await oldDatabase());
    await writeLedger(database.url, columns, 'a');
    before = await rowsOf(database.url, columns);
    const applied = await applyMigrations(database.url);
    expect(applied).toEqual(scripts.map(({ name }) => name).filter((name) => name >= FIRST_NEW));
    db = createLedgerClient(database.url);
    const configured = Object.entries(SECRETS).map(([channel, secret]) => ({
      channel,
      credentials: { secret },
    }));
    await storeConfigured(db, configured, SECRET, new Date());
  });
  afterAll(async () => {
    await db?.$disconnect();
    await database?.drop();
  });

  test('keeps every row unchanged, and has the right values in the new columns', async () => {
    const after = await rowsOf(database.url, columns);
    for (const [table, rows] of before) {
      const isFilled = !['secret_fingerprint'].includes(table);
      expect([table, rows.length > 0]).toEqual([table, isFilled]);
      expect([table, after.get(table)]).toEqual([table, rows]);
    }
    const count = async (condition: string) =>
      (await queryOnce(database.url, `select count(*)::int as n from ${condition}`))[0]?.n;
    // The create request of a `created` payment may or may not have reached the channel. The create requests of all
    // other payments have reached it.
    expect(await count("payments where status = 'created' and create_asked_at = created_at")).toBe(2);
    expect(await count("payments where status <> 'created' and create_asked_at is not null")).toBe(0);
    expect(await count('payments where coalesce(account, reference, hidden_attention) is not null')).toBe(0);
    expect(await count("callbacks where kind <> 'trade' or reference is not null")).toBe(0);
    expect(await count('refunds where attempt <> 1 or key_spent_at is not null')).toBe(0);
  });

  test('has the same schema as a new database, and no unvalidated constraint or invalid index', async () => {
    expect(await unsound(database.url)).toEqual([]);
    const fresh = await freshDatabase();
    try {
      expect(await schemaOf(database.url)).toEqual(await schemaOf(fresh.url));
    } finally {
      await fresh.drop();
    }
  });

  test('rejects changes of settled payments, and rejects refunds that exceed the received amount', async () => {
    const refused = async (sql: string) => {
      const error = await db.$executeRawUnsafe(sql).then(
        () => undefined,
        (reason: unknown) => reason,
      );
      expect(isConstraintViolation(error), `${sql}: ${error}`).toBe(true);
    };
    await refused("update payments set status = 'closed' where id = 'pay_aapplied'");
    await refused("update payments set received_amount = 999 where id = 'pay_aapplied'");
    await refused("update payments set amount = 999 where id = 'pay_apaying'");
    await refused("update orders set status = 'unpaid' where id = 'o-aapplied'");
    await refused("update refunds set amount = 1001 where id = 're_anew'");
    await refused("update refunds set status = 'succeeded', amount = 601 where id = 're_arest'");
    await refused("update payments set attention = 'bored' where id = 'pay_adisputed'");
    // PostgreSQL runs the two updates of this query string as one transaction, so it rolls back both.
    await expect(
      queryOnce(
        database.url,
        `update refunds set status = 'reversed' where id = 're_awhole';
         update refunds set status = 'succeeded' where id = 're_awhole'`,
      ),
    ).rejects.toThrow('reversed for good');
    const client = new Connection({ connectionString: database.url });
    await client.connect();
    await client.query('begin');
    await client.query("update callbacks set reference = 'R', next_sweep_at = now() where id = 'cb_aearly'");
    await client.query("update payments set reference = 'R' where id = 'pay_acreated'");
    const { rows } = await client.query("select next_sweep_at from callbacks where id = 'cb_aearly'");
    await client.query('rollback');
    await client.end();
    expect(rows).toEqual([{ next_sweep_at: null }]);
  });

  test('has one account named main for each merchant and channel, and this account is the default and has credentials', async () => {
    const accounts = await listAccounts(db, new Date());
    expect(accounts.length).toBe(4);
    for (const account of accounts) {
      expect(account).toMatchObject({
        name: 'main',
        isMerchantDefault: true,
        mode: 'test',
        disabledAt: null,
      });
      const secret = SECRETS[account.channel as keyof typeof SECRETS];
      expect(await readCredentials(db, SECRET, account.id, new Date())).toEqual([{ secret }]);
    }
    expect(accounts.filter(({ ownsChannelAddress }) => ownsChannelAddress).length).toBe(2);
    const [, second] = await findMerchants(db, new Date());
    const [signing] = second?.signingSecrets ?? [];
    expect(openSecret(SECRET, 'mer_a2', signing?.ciphertext ?? new Uint8Array())).toBe(OLD_SIGNING_SECRET);
  });

  test('can be read through the API, with every payment, its order, its refunds, its deliveries and its timeline', async () => {
    const api = await startTestApi(database.url);
    try {
      const shown: string[] = [];
      for (const merchantId of ['mer_a1', 'mer_a2']) {
        const { key } = await createApiKey(db, merchantId, 'merchant');
        const get = async (path: string) => {
          const answer = await api.call(path, { key });
          expect([path, answer.status, answer.text]).toEqual([path, 200, expect.any(String)]);
          return answer.json;
        };
        let cursor = '';
        do {
          const page = await get(`/v1/payments?limit=7${cursor}`);
          cursor = page.nextCursor === null ? '' : `&cursor=${encodeURIComponent(page.nextCursor)}`;
          for (const listed of page.data) {
            shown.push(listed.id);
            const row = before.get('payments')?.find(({ id }) => id === listed.id);
            expect(listed).toMatchObject({ status: row?.status, amount: 1000, account: 'main' });
            const payment = await get(`/v1/payments/${listed.id}`);
            expect(payment).toMatchObject({
              id: listed.id,
              status: row?.status,
              attention: listed.attention,
            });
            expect((await get(`/v1/payments/${listed.id}/timeline`)).data.length).toBeGreaterThan(0);
            const refunds = before.get('refunds')?.filter(({ payment_id }) => payment_id === listed.id) ?? [];
            const { data } = await get(`/v1/payments/${listed.id}/refunds`);
            expect(data.map(({ id }: Row) => id).sort()).toEqual(refunds.map(({ id }) => id).sort());
            await get(`/v1/payments/${listed.id}/deliveries`);
            await get(`/v1/orders/${listed.orderId}`);
          }
        } while (cursor !== '');
        for (const path of ['/v1/orders', '/v1/events', '/v1/deliveries']) await get(path);
        await get('/v1/payments?attention=true');
      }
      const { key: operator } = await createApiKey(db, 'mer_a2', 'operator');
      const unmatched = await api.call('/v1/callbacks?unmatched=true', { key: operator });
      expect(unmatched.json.data.map(({ id }: Row) => id)).toEqual(['cb_anobody']);
      // If the channel repeats a callback, the callback is found in its old row and no second row is written.
      const { raw, headers } = simulatorCallback('pay_aby_callback', 'n-aknown', {
        ...{ amount: 1000, transactionId: 'T' },
      });
      const known = await db.callback.findFirstOrThrow({
        ...{ where: { notificationId: 'n-aknown' }, include: { channelAccount: true } },
      });
      const { id: accountId, channel } = known.channelAccount;
      const again = await api.call(`/callbacks/${channel}/${accountId}`, { raw, headers });
      expect([again.status, await db.callback.count({ where: { notificationId: 'n-aknown' } })]).toEqual([
        200, 1,
      ]);
      expect(shown.sort()).toEqual(
        before
          .get('payments')
          ?.map(({ id }) => id)
          .sort(),
      );
    } finally {
      await api.close();
    }
  });

  const now = async () => new Date();
  /** The worker's activities, with this simulator as the channel. */
  function activitiesAt(simulator: { readonly url: string }) {
    const deps: ActivityDeps = {
      ...{ db, now, secret: SECRET, publicUrl: 'http://127.0.0.1:9' },
      channels: createChannels({ mode: 'test', simulator, stripe: {} }, new CredentialsCache(db, SECRET)),
      deliveryWorkflows: { start: async () => {}, redeliverWaiting: async () => {} },
      workflows: { wake: async () => {} },
    };
    const run = <Args extends unknown[], R>(activity: (...args: Args) => Promise<R>, ...args: Args) =>
      new MockActivityEnvironment().run(activity, ...args) as Promise<R>;
    const { createAtChannel } = channelActivities(deps);
    const { refundAtChannel, queryRefund } = refundChannelActivities(deps);
    return {
      create: (id: string) => run(createAtChannel, id),
      refund: (id: string) => run(refundAtChannel, id),
      queryRefund: (refundId: string) => run(queryRefund, { refundId, waits: [1_000] }),
    };
  }

  test('gets one trade for an unfinished create, and one refund for each open refund', async () => {
    const simulator = await start();
    const at = activitiesAt(simulator);
    // The older release has sent the create request, but has not received an answer.
    const { channel } = await db.payment.findUniqueOrThrow({ where: { id: 'pay_acreated' } });
    expect(channel).toBe('simulator');
    expect(await at.create('pay_acreated')).toMatchObject({ status: 'paying' });
    const created = await db.payment.findUniqueOrThrow({ where: { id: 'pay_acreated' } });
    expect(created).toMatchObject({ createAskedAt: created.createdAt, reference: null });
    expect(await simulator.ledger()).toMatchObject([{ outTradeNo: 'pay_acreated', createdCount: 1 }]);

    for (const name of ['re_new', 're_asked', 're_process']) {
      const payment = await db.payment.findUniqueOrThrow({ where: { id: `pay_a${name}` } });
      const adapter = simulator.adapterOf(payment.channel as keyof typeof SECRETS);
      const account = {
        id: payment.channelAccountId,
        merchantId: payment.merchantId,
        channel: payment.channel,
      };
      const trade = newTrade({ outTradeNo: payment.id, amount: 1000 });
      await adapter.createTrade({ ...account, credentials: [] }, trade);
      await simulator.pay(payment.id);
    }
    const refunded = async (name: string) =>
      (await simulator.ledger()).find(({ outTradeNo }) => outTradeNo === `pay_a${name}`)?.refunded;
    for (const name of ['new', 'asked']) {
      expect((await at.refund(`re_a${name}`)).status).toMatch(/^(processing|succeeded)$/);
      await at.refund(`re_a${name}`);
      expect(await refunded(`re_${name}`)).toBe(100);
    }
    // The channel does not know the refund, so the activity requests it again under the same number.
    expect(await at.queryRefund('re_aprocess')).toMatchObject({ known: false });
    expect((await at.refund('re_aprocess')).status).toMatch(/^(processing|succeeded)$/);
    expect(await refunded('re_process')).toBe(100);
    const rows = await db.refund.findMany({ where: { id: { in: ['re_anew', 're_aasked', 're_aprocess'] } } });
    expect(rows.map(({ attempt, keySpentAt }) => [attempt, keySpentAt])).toEqual(Array(3).fill([1, null]));
  });

  test('keeps its undelivered callbacks, and the sweep forwards each of them, even if its payment is created after the migration', async () => {
    const old = (await queryOnce(database.url, "select * from callbacks where id = 'cb_aearly'"))[0];
    const payment = await db.payment.findUniqueOrThrow({ where: { id: 'pay_acreated' } });
    const order = { merchantId: 'mer_a1', amount: 1000n, currency: 'CNY', subject: 'Tea' };
    await db.order.create({ data: { ...order, id: 'o-to-come' } });
    await db.payment.create({
      data: {
        ...{ id: 'pay_ato_come', merchantId: 'mer_a1', orderId: 'o-to-come', channel: 'simulator' },
        ...{
          channelAccountId: `${old?.channel_account_id}`,
          method: 'wallet',
          amount: 1000n,
          currency: 'CNY',
        },
        ...{ status: 'paying', clientTokenHash: 'x', expiresAt: payment.expiresAt },
      },
    });
    const { sweep, workflows, refundWorkflows } = sweeper();
    expect(await sweep.sweepUnmatched()).toBe(1);
    const matched = await db.callback.findUniqueOrThrow({ where: { id: 'cb_aearly' } });
    expect(matched).toMatchObject({ paymentId: 'pay_ato_come', kind: 'trade' });
    expect(await db.payment.findUniqueOrThrow({ where: { id: 'pay_ato_come' } })).toMatchObject({
      channelAnswer: { state: 'paid', amount: 1000, by: 'callback' },
    });
    await sweep.sweepCallbacks();
    expect(workflows.named('deliverCallback').map(({ paymentId }) => paymentId)).toEqual(
      expect.arrayContaining(['pay_ato_come', 'pay_apaying']),
    );
    expect(refundWorkflows.calls).toContainEqual({ name: 'deliverCallback', refundId: 're_aasked' });
  });

  function sweeper() {
    const workflows = new StandInWorkflows(db);
    const refundWorkflows = new StandInRefundWorkflows();
    const deliveryWorkflows = new StandInDeliveryWorkflows();
    // No workflows exist, so the sweep must start one for every payment, refund and delivery that has not
    // ended.
    const client = {
      withAbortSignal: (_: AbortSignal, call: () => Promise<unknown>) => call(),
      workflow: {
        getHandle: (id: string) => ({
          async describe() {
            throw new WorkflowNotFoundError('not found', id, undefined);
          },
        }),
        async *list() {},
      },
    } as unknown as SweepDeps['client'];
    const sweep = sweepActivities({
      ...{ db, client, now, workflows, refundWorkflows, deliveryWorkflows },
    } as unknown as SweepDeps);
    return { sweep, workflows, refundWorkflows, deliveryWorkflows };
  }

  test('is repaired by the sweep, which wakes stuck payments and settles recorded money', async () => {
    const { sweep, workflows, refundWorkflows, deliveryWorkflows } = sweeper();
    for (const [name, step] of Object.entries(sweep))
      expect([name, await step()]).toEqual([name, expect.any(Number)]);
    const woken = workflows.named('wake').map(({ paymentId }) => paymentId);
    expect(woken).toEqual(expect.arrayContaining(['pay_alate', 'pay_acancelling']));
    expect(await db.payment.findUniqueOrThrow({ where: { id: 'pay_aunsettled' } })).toMatchObject({
      ...{ status: 'succeeded', orderUpdate: 'pending', receivedAmount: 1000n },
    });
    const started = refundWorkflows.calls
      .filter(({ name }) => name === 'start')
      .map(({ refundId }) => refundId);
    // The refund `given` succeeded 8 days ago, so the sweep checks it again.
    expect(started).toEqual(
      expect.arrayContaining(['re_aduplicate_payment', 're_alate_payment', 're_arest', 're_agiven']),
    );
    expect(started.filter((id) => /re_a(x|failed|whole)/.test(id))).toEqual([]);
    expect(deliveryWorkflows.calls).toContainEqual({ name: 'wake', deliveryId: 'dlv_apending' });
    // Payments that were already settled have not changed.
    const after = await rowsOf(database.url, columns);
    const settled = (rows: readonly Row[] = []) =>
      rows.filter(({ id }) => /^pay_a(applied|by_|conflict|review|mismatch|part|whole)/.test(`${id}`));
    expect(
      settled(after.get('payments')).map(({ status, order_update, received_amount, refunded_amount }) => [
        ...[status, order_update, received_amount, refunded_amount],
      ]),
    ).toEqual(
      settled(before.get('payments')).map(({ status, order_update, received_amount, refunded_amount }) => [
        ...[status, order_update, received_amount, refunded_amount],
      ]),
    );
  });
});

test('the database accepts the writes of the older release before the first migration and after each migration', async () => {
  const { database, columns } = await oldDatabase();
  try {
    const client = new Connection({ connectionString: database.url });
    await client.connect();
    const worlds = ['b0'];
    await writeLedger(database.url, columns, 'b0');
    const size = (await queryOnce(database.url, 'select count(*)::int as n from payments'))[0]?.n;
    for (const { name, sql } of scripts) {
      if (name < FIRST_NEW) continue;
      // Sends the whole script as one query, as Prisma's engine does.
      await client.query(sql);
      const w = `b${worlds.length}`;
      worlds.push(w);
      await writeLedger(database.url, columns, w);
    }
    await client.end();
    const counts = await queryOnce(
      database.url,
      `select (select count(*)::int from payments) as payments, (select count(*)::int from channel_accounts) as accounts`,
    );
    expect(counts).toEqual([{ payments: worlds.length * Number(size), accounts: worlds.length * 4 }]);
    expect(await unsound(database.url)).toEqual([]);
  } finally {
    await database.drop();
  }
});
