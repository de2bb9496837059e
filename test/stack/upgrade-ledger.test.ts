// A ledger that the release before accounts and references has filled, with payments of every state, brought up to date.
import { createHash } from 'node:crypto';
import { cpSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { WorkflowNotFoundError } from '@temporalio/client';
import { MockActivityEnvironment } from '@temporalio/testing';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { channelActivities } from '../../src/activities/channel.ts';
import type { ActivityDeps } from '../../src/activities/deps.ts';
import { refundChannelActivities } from '../../src/activities/refund.ts';
import { type SweepDeps, sweepActivities } from '../../src/activities/sweep.ts';
import { createChannels } from '../../src/channels/registry.ts';
import { listAccounts, readCredentials, storeConfigured } from '../../src/ledger/channel-accounts.ts';
import { createLedgerClient, isConstraintViolation, type LedgerClient } from '../../src/ledger/client.ts';
import { Connection } from '../../src/ledger/connection.ts';
import { CredentialsCache } from '../../src/ledger/credentials-cache.ts';
import { createApiKey, findMerchants } from '../../src/ledger/merchants.ts';
import { openSecret } from '../../src/order-service/secrets.ts';
import { applyMigrations, prismaDir, readMigrations } from '../../src/stack/migrate.ts';
import {
  SECRET,
  StandInDeliveryWorkflows,
  StandInRefundWorkflows,
  StandInWorkflows,
  simulatorCallback,
  startTestApi,
} from '../api/support.ts';
import { newTrade, SECRETS, start } from '../simulator/support.ts';
import {
  emptyDatabase,
  type FreshDatabase,
  freshDatabase,
  queryOnce,
  temporaryHome,
} from '../support/stack.ts';

const FIRST_NEW = '20261127070001_trade_reference';
const [MINUTE, HOUR, DAY] = [60_000, 3_600_000, 86_400_000];

/** The tables of the older release, each with its columns. */
type Columns = ReadonlyMap<string, readonly string[]>;

const scripts = readMigrations().migrationDirectories.map(({ path, migrationFile: { content } }) => ({
  name: path,
  sql: content.tag === 'ok' ? content.value : '',
}));

/** A database as the older release made it. */
async function oldDatabase(): Promise<{ database: FreshDatabase; columns: Columns }> {
  const database = await emptyDatabase();
  const dir = temporaryHome();
  try {
    cpSync(prismaDir, dir, { recursive: true });
    for (const { name } of scripts)
      if (name >= FIRST_NEW) rmSync(join(dir, 'migrations', name), { recursive: true });
    await applyMigrations(database.url, dir);
  } finally {
    rmSync(dir, { recursive: true, force: true });
  }
  const columns = new Map<string, string[]>();
  for (const { table_name, column_name } of await queryOnce(
    database.url,
    `select table_name, column_name from information_schema.columns
     where table_schema = 'public' and table_name <> '_prisma_migrations' order by table_name, ordinal_position`,
  )) {
    const table = `${table_name}`;
    columns.set(table, [...(columns.get(table) ?? []), `${column_name}`]);
  }
  return { database, columns };
}

/** As the older release has sealed it under SECRET for the merchant mer_a2. */
const OLD_SIGNING_SECRET = `whsec_${Buffer.alloc(32, 7).toString('base64')}`;
const OLD_CIPHERTEXT =
  'Ac+NOYEdwCplIYJ2EkIGiz6tM2cfcqT/MSH1ihHYGNNs3rd2krJyEAUw/wPwPonpXkUgkxN1Zk+p4N/yLkMt9Crbpv5aoQC3Z0KHvytPOw==';

type Row = Readonly<Record<string, unknown>>;

/** What the older release takes for the same callback: without the channel's clock. */
const OLD_CONTENT_HASH = createHash('sha256')
  .update('{"said":{"state":"paid","channelPaymentId":"T","amount":1000,"currency":"CNY"}}')
  .digest('base64url');

/**
 * Writes what the older release can have written, in its statements: they name all of its columns and no others. Two
 * merchants, each with an account at both channels.
 * @param w every id has it, so that it can be written many times
 */
async function writeLedger(url: string, columns: Columns, w: string): Promise<void> {
  const client = new Connection({ connectionString: url });
  await client.connect();
  const now = Date.now();
  const ago = (ms: number) => new Date(now - ms);

  const insert = async (table: string, row: Row) => {
    const known = columns.get(table) ?? [];
    for (const name of Object.keys(row)) if (!known.includes(name)) throw new Error(`${table}.${name}`);
    const values: unknown[] = [];
    const places = known.map((name) => {
      if (row[name] === undefined) return 'DEFAULT';
      const value = row[name];
      const isJson = typeof value === 'object' && value?.constructor === Object;
      return `$${values.push(isJson ? JSON.stringify(value) : value)}`;
    });
    await client.query(
      `INSERT INTO ${table} (${known.join(', ')}) VALUES (${places.join(', ')}) ON CONFLICT DO NOTHING`,
      values,
    );
  };

  let n = 0;
  const accountOf = new Map<string | null, string>();
  /** A payment and its order, which it pays when it says so. */
  const payment = async (name: string, changes: Row = {}, orderStatus?: 'refunded') => {
    const merchant_id = `mer_${w}${1 + (n % 2)}`;
    const channel = (n >> 1) % 2 === 0 ? 'simulator' : 'simulator2';
    n += 1;
    const id = `pay_${w}${name}`;
    const channel_account_id = `acc_${merchant_id}_${channel}`;
    accountOf.set(id, channel_account_id);
    const order = { merchant_id, id: `o-${w}${name}`, amount: 1000, currency: 'CNY', subject: 'Tea' };
    await insert('orders', { ...order, status: 'unpaid', created_at: ago(HOUR) });
    await insert('payments', {
      ...{
        id,
        merchant_id,
        order_id: order.id,
        channel,
        channel_account_id: `acc_${merchant_id}_${channel}`,
      },
      ...{ method: 'wallet', amount: 1000, currency: 'CNY', subject: 'Tea', client_token_hash: `hash ${id}` },
      ...{ created_at: ago(5 * MINUTE + n), expires_at: new Date(now + HOUR), metadata: { n } },
      ...{ payer: { id: 'p1' }, status: 'paying' },
      ...changes,
    });
    await insert('timeline', { payment_id: id, kind: 'transition', detail: 'Made.', data: { n } });
    const paid = [orderStatusOf(changes), orderStatus].filter((status) => status !== undefined);
    for (const status of paid) {
      await client.query(
        `UPDATE orders SET status = $3, paid_payment_id = COALESCE($4, paid_payment_id), paid_at = COALESCE($5, paid_at)
         WHERE merchant_id = $1 AND id = $2`,
        [merchant_id, order.id, status, ...(isPaid(status) ? [id, ago(MINUTE)] : [null, null])],
      );
    }
    return { id, merchant_id, channel };
  };
  const isPaid = (status: unknown) => status === 'succeeded' || status === 'refunded';
  const orderStatusOf = ({ order_update, status }: Row) => {
    if (order_update === 'pending' || order_update === 'applied') return 'succeeded';
    if (order_update === 'conflict' || status === 'cancelled') return 'cancelled';
    if (status === 'closed') return 'closed';
    return status === 'failed' ? undefined : 'paying';
  };
  const answer = { state: 'paid', channelPaymentId: 'T', amount: 1000, currency: 'CNY', by: 'query' };
  const word = {
    ...{ channel_state: 'paid', channel_answered_at: ago(3 * MINUTE), channel_state_count: 1 },
    channel_answer: { ...answer, paidAt: ago(4 * MINUTE).toISOString() },
  };
  const money = {
    ...{ ...word, status: 'succeeded', order_update: 'applied', order_updated_at: ago(MINUTE) },
    ...{
      settled_by: 'query',
      settled_at: ago(3 * MINUTE),
      paid_at: ago(4 * MINUTE),
      channel_payment_id: 'T',
    },
    ...{ received_amount: 1000, received_currency: 'CNY', payer_amount: 990 },
  };
  const refund = async (
    { id: payment_id, merchant_id }: { id: string; merchant_id: string },
    name: string,
    changes: Row,
  ) =>
    insert('refunds', {
      ...{ id: `re_${w}${name}`, merchant_id, payment_id, amount: 100, currency: 'CNY', reason: 'requested' },
      ...{ status: 'created', created_at: ago(HOUR), updated_at: ago(HOUR), note: 'Sorry', ...changes },
    });

  await client.query('BEGIN');
  for (const m of ['1', '2']) {
    const merchant_id = `mer_${w}${m}`;
    const service = m === '2' ? { order_service_url: 'https://shop.example/hooks' } : {};
    await insert('merchants', { id: merchant_id, name: `${w}-${m}`, late_payment: 'review', ...service });
    await insert('api_keys', {
      id: `key_${w}${m}`,
      merchant_id,
      role: 'merchant',
      hash: w + m,
      hint: 'abcd',
    });
    await insert('idempotency_keys', {
      ...{ merchant_id, key: 'k', route: 'POST /v1/payments', request_hash: 'x' },
      ...{ response_status: 201, response_body: { id: 'x' } },
    });
    for (const channel of ['simulator', 'simulator2']) {
      const { rows } = await client.query(
        'SELECT count(*)::int AS n FROM channel_accounts WHERE channel = $1 AND is_default',
        [channel],
      );
      const id = `acc_${merchant_id}_${channel}`;
      await insert('channel_accounts', { id, merchant_id, channel, is_default: rows[0]?.n === 0 });
      // As every start of the older release has it.
      await insert('channel_accounts', { id: `${id}_again`, merchant_id, channel, is_default: false });
    }
  }
  if (w === 'a')
    await insert('signing_secrets', {
      ...{
        id: 'sec_a2',
        merchant_id: 'mer_a2',
        ciphertext: Buffer.from(OLD_CIPHERTEXT, 'base64'),
        hint: 'BwcH',
      },
    });
  await insert('write_probe', { id: 1, probed_at: ago(0) });

  await payment('created', { status: 'created' });
  await payment('late', {
    status: 'created',
    subject: null,
    created_at: ago(HOUR),
    expires_at: ago(30 * MINUTE),
  });
  await payment('paying', { next_action: { type: 'redirect', url: 'https://wallet.example/' } });
  await payment('processing', { channel_state: 'processing', channel_answered_at: ago(MINUTE) });
  await payment('cancelling', { cancel_requested_at: ago(5 * MINUTE) });
  await payment('unsettled', word);
  for (const status of ['failed', 'cancelled', 'closed'])
    await payment(status, { status, ended_at: ago(MINUTE), expires_at: ago(2 * MINUTE) });
  await payment('recovered', { recovered_at: ago(HOUR), subject: null });
  for (const order_update of ['applied', 'pending', 'conflict', 'review'])
    await payment(order_update, { ...money, order_update });
  for (const settled_by of ['callback', 'query', 'hint', 'close', 'statement', 'operator'])
    await payment(`by_${settled_by}`, { ...money, settled_by });
  await payment('accepted', { ...money, received_amount: 900, settled_by: 'operator' });
  await payment('mismatch', { ...money, order_update: 'review', received_currency: 'USD' });
  for (const attention of OLD_ATTENTIONS)
    await payment(attention, {
      ...(['channel_unreachable', 'create_unknown', 'channel_undecided'].includes(attention) ? {} : money),
      ...{ attention, attention_since: ago(MINUTE), attention_detail: 'See.' },
    });

  await refund(await payment('re_new', money), 'new', {});
  await refund(await payment('re_asked', money), 'asked', { asked_at: ago(30 * MINUTE) });
  await refund(await payment('re_process', money), 'process', {
    ...{
      status: 'processing',
      asked_at: ago(10 * DAY),
      unknown_since: ago(9 * DAY),
      updated_at: ago(9 * DAY),
    },
  });
  const part = await payment('part', { ...money, refunded_amount: 500 });
  await refund(part, 'given', {
    ...{ status: 'succeeded', asked_at: ago(8 * DAY), settled_at: ago(8 * DAY), asked_amount: 120 },
    ...{ channel_refund_id: 'R1', idempotency_key: `${w}-1` },
  });
  // The older release knew no ids of those that others made.
  for (const nth of ['', '002'])
    await refund(part, `x${nth}`, {
      status: 'succeeded',
      reason: 'external',
      amount: 200,
      settled_at: ago(DAY),
    });
  await refund(part, 'rest', {});
  await refund(part, 'failed', {
    ...{
      status: 'failed',
      failure: 'REFUND_EXCEEDS_PAYMENT',
      settled_at: ago(DAY),
      replaced_by: `re_${w}rest`,
    },
  });
  for (const reason of ['duplicate_payment', 'late_payment'])
    await refund(await payment(reason, { ...money, order_update: 'conflict' }), reason, {
      reason,
      amount: 1000,
    });
  const whole = await payment('whole', { ...money, refunded_amount: 1000 }, 'refunded');
  await refund(whole, 'whole', { amount: 1000 });
  await client.query("UPDATE refunds SET status = 'processing', asked_at = now() WHERE id = $1", [
    `re_${w}whole`,
  ]);
  await client.query("UPDATE refunds SET status = 'succeeded', settled_at = now() WHERE id = $1", [
    `re_${w}whole`,
  ]);

  const paid = { ...answer, paidAt: ago(MINUTE).toISOString() };
  const { by: _, ...said } = paid;
  const about = async (payment_id: string | null, out_trade_no: string, changes: Row = {}) =>
    insert('callbacks', {
      ...{ id: `cb_${w}${n++}`, notification_id: `n-${w}${n}`, payment_id, out_trade_no, answer: said },
      ...{
        channel_account_id: accountOf.get(payment_id) ?? `acc_mer_${w}1_simulator`,
        body: Buffer.from('{}'),
      },
      content_hash: OLD_CONTENT_HASH,
      ...{ received_at: ago(HOUR), ...changes },
    });
  await about(`pay_${w}by_callback`, `pay_${w}by_callback`, {
    ...{ notification_id: `n-${w}known`, delivered_at: ago(HOUR) },
  });
  await about(`pay_${w}paying`, `pay_${w}paying`, { id: `cb_${w}undelivered` });
  const told = {
    ...said,
    refund: {
      outRefundNo: `re_${w}asked`,
      answer: { state: 'succeeded', channelRefundId: 'R', amount: 100 },
    },
  };
  await about(`pay_${w}re_asked`, `pay_${w}re_asked`, { answer: told });
  await about(null, `pay_${w}to_come`, { id: `cb_${w}early` });
  await about(null, `pay_${w}nobody`, {
    id: `cb_${w}nobody`,
    channel_account_id: `acc_mer_${w}2_simulator2`,
  });
  const sender = { channel_account_id: `acc_mer_${w}2_simulator`, address: '192.0.2.1' };
  await insert('unverified_callbacks', {
    ...{
      id: `uv_${w}`,
      ...sender,
      body_hash: 'x',
      body_head: Buffer.alloc(4096, 7),
      reason: 'No signature.',
    },
  });
  await insert('unverified_callback_counts', { ...sender, minute: ago(MINUTE), count: 3 });

  const statuses = ['pending', 'delivered', 'conflict', 'gone', 'superseded'];
  for (const [version, status] of statuses.entries()) {
    const { id: payment_id, merchant_id } = await payment(`told_${status}`, money);
    const type = status === 'pending' ? 'refund.succeeded' : 'payment.succeeded';
    const data = { payment: { id: payment_id }, order: { id: 'o' } };
    await insert('events', {
      id: `evt_${w}${status}`,
      merchant_id,
      payment_id,
      type,
      version: 1 + version,
      data,
    });
    await insert('deliveries', {
      ...{
        id: `dlv_${w}${status}`,
        event_id: `evt_${w}${status}`,
        merchant_id,
        payment_id,
        status,
        attempts: 1,
      },
      ...{ created_at: ago(HOUR), ...(status === 'pending' ? {} : { settled_at: ago(MINUTE) }) },
    });
    for (const outcome of ['agreed', 'conflict', 'gone', 'order_unknown', 'not_applied', 'unknown'])
      await insert('delivery_attempts', {
        ...{ delivery_id: `dlv_${w}${status}`, outcome, status_code: 200, detail: 'Said.', duration_ms: 5 },
        answer: 'ok',
      });
  }
  await client.query('COMMIT');
  await client.end();
}

const OLD_ATTENTIONS = [
  ...['channel_unreachable', 'create_unknown', 'channel_undecided', 'order_update_failing', 'order_unknown'],
  ...['delivery_failing', 'order_conflict', 'amount_mismatch', 'late_payment_review', 'refund_failing'],
  ...['statement_mismatch', 'disputed', 'channel_reversed', 'workflow_stuck'],
];

/** Every row as far as the older release knows it, by table. */
async function rowsOf(url: string, columns: Columns): Promise<Map<string, Row[]>> {
  const rows = new Map<string, Row[]>();
  for (const [table, names] of columns) {
    const seen = await queryOnce(
      url,
      `select to_jsonb(known) as row from (select ${names.join(', ')} from "${table}") as known order by 1`,
    );
    rows.set(
      table,
      seen.map(({ row }) => row as Row),
    );
  }
  return rows;
}

/** Whatever PostgreSQL knows of the schema. */
async function schemaOf(url: string): Promise<string[]> {
  const rows = await queryOnce(
    url,
    `select concat_ws(' ', table_name, column_name, data_type, is_nullable, column_default) as line
       from information_schema.columns where table_schema = 'public'
     union all select concat_ws(' ', conrelid::regclass, conname, convalidated, pg_get_constraintdef(oid))
       from pg_constraint where connamespace = 'public'::regnamespace
     union all select concat_ws(' ', indisvalid, indisready, pg_get_indexdef(indexrelid)) from pg_index
       join pg_class on pg_class.oid = indexrelid where relnamespace = 'public'::regnamespace
     union all select concat_ws(' ', tgenabled, pg_get_triggerdef(oid)) from pg_trigger where not tgisinternal
     union all select proname || prosrc from pg_proc where pronamespace = 'public'::regnamespace
     order by 1`,
  );
  return rows.map(({ line }) => `${line}`);
}

const unsound = (url: string) =>
  queryOnce(
    url,
    `select conname::text as name from pg_constraint
       where connamespace = 'public'::regnamespace and not convalidated
     union all select indexrelid::regclass::text from pg_index where not (indisvalid and indisready and indislive)`,
  );

describe('a ledger of the release before', () => {
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

  test('has every row as it was, with what the new columns say of it', async () => {
    const after = await rowsOf(database.url, columns);
    for (const [table, rows] of before) {
      const isFilled = !['secret_fingerprint'].includes(table);
      expect([table, rows.length > 0]).toEqual([table, isFilled]);
      expect([table, after.get(table)]).toEqual([table, rows]);
    }
    const count = async (condition: string) =>
      (await queryOnce(database.url, `select count(*)::int as n from ${condition}`))[0]?.n;
    // What was being created may have reached the channel; of everything else it is known that it has.
    expect(await count("payments where status = 'created' and create_asked_at = created_at")).toBe(2);
    expect(await count("payments where status <> 'created' and create_asked_at is not null")).toBe(0);
    expect(await count('payments where coalesce(account, reference, hidden_attention) is not null')).toBe(0);
    expect(await count("callbacks where kind <> 'trade' or reference is not null")).toBe(0);
    expect(await count('refunds where attempt <> 1 or key_spent_at is not null')).toBe(0);
  });

  test('has the schema of a new database, with nothing left to validate', async () => {
    expect(await unsound(database.url)).toEqual([]);
    const fresh = await freshDatabase();
    try {
      expect(await schemaOf(database.url)).toEqual(await schemaOf(fresh.url));
    } finally {
      await fresh.drop();
    }
  });

  test('is guarded: what is settled stays, and no more goes back than came in', async () => {
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
    // One query is one transaction: nothing of it stays.
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

  test('each account is its merchant’s default named main, and the simulator’s have their credentials', async () => {
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

  test('the API lists and shows every payment, its order, refunds, events and timeline', async () => {
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
      // The channel's repetition of one is the row of before.
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
  /** The activities at this simulator, as the worker has them. */
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

  test('an attempt that was being created gets its trade, and an open refund goes on, each once', async () => {
    const simulator = await start();
    const at = activitiesAt(simulator);
    // Asked for by the older release; the answer got lost.
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
    // The channel does not know it: asked for once more under the same number.
    expect(await at.queryRefund('re_aprocess')).toMatchObject({ known: false });
    expect((await at.refund('re_aprocess')).status).toMatch(/^(processing|succeeded)$/);
    expect(await refunded('re_process')).toBe(100);
    const rows = await db.refund.findMany({ where: { id: { in: ['re_anew', 're_aasked', 're_aprocess'] } } });
    expect(rows.map(({ attempt, keySpentAt }) => [attempt, keySpentAt])).toEqual(Array(3).fill([1, null]));
  });

  test('a callback that matched nothing matches, and is delivered as one that was never delivered', async () => {
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
    // No workflow runs: everything that is to go on has to be started.
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

  test('the sweep runs over it: what is stuck goes on, and money on record is settled', async () => {
    const { sweep, workflows, refundWorkflows, deliveryWorkflows } = sweeper();
    for (const [name, haul] of Object.entries(sweep))
      expect([name, await haul()]).toEqual([name, expect.any(Number)]);
    const woken = workflows.named('wake').map(({ paymentId }) => paymentId);
    expect(woken).toEqual(expect.arrayContaining(['pay_alate', 'pay_acancelling']));
    expect(await db.payment.findUniqueOrThrow({ where: { id: 'pay_aunsettled' } })).toMatchObject({
      ...{ status: 'succeeded', orderUpdate: 'pending', receivedAmount: 1000n },
    });
    const started = refundWorkflows.calls
      .filter(({ name }) => name === 'start')
      .map(({ refundId }) => refundId);
    // `given` succeeded 8 days ago, and is looked at again.
    expect(started).toEqual(
      expect.arrayContaining(['re_aduplicate_payment', 're_alate_payment', 're_arest', 're_agiven']),
    );
    expect(started.filter((id) => /re_a(x|failed|whole)/.test(id))).toEqual([]);
    expect(deliveryWorkflows.calls).toContainEqual({ name: 'wake', deliveryId: 'dlv_apending' });
    // Nothing is lost by it, and nothing that was settled has changed.
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

test('what the older release writes is taken before, between and after the migrations', async () => {
  const { database, columns } = await oldDatabase();
  try {
    const client = new Connection({ connectionString: database.url });
    await client.connect();
    const worlds = ['b0'];
    await writeLedger(database.url, columns, 'b0');
    const size = (await queryOnce(database.url, 'select count(*)::int as n from payments'))[0]?.n;
    for (const { name, sql } of scripts) {
      if (name < FIRST_NEW) continue;
      // As Prisma's engine sends it: the whole script as one query.
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
