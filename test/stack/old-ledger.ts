import { createHash } from 'node:crypto';
import { cpSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { Connection } from '../../src/ledger/connection.ts';
import { applyMigrations, prismaDir, readMigrations } from '../../src/stack/migrate.ts';
import { emptyDatabase, type FreshDatabase, queryOnce, temporaryHome } from '../support/stack.ts';

/**
 * Creates a ledger as an older release wrote it, with payments in every state. That release had no named
 * accounts and no trade references.
 */

export const FIRST_NEW = '20261127070001_trade_reference';
const [MINUTE, HOUR, DAY] = [60_000, 3_600_000, 86_400_000];

/** The tables of the older release, each with its columns. */
export type Columns = ReadonlyMap<string, readonly string[]>;

export const scripts = readMigrations().migrationDirectories.map(({ path, migrationFile: { content } }) => ({
  name: path,
  sql: content.tag === 'ok' ? content.value : '',
}));

/** Creates a database with the migrations of the older release. */
export async function oldDatabase(): Promise<{ database: FreshDatabase; columns: Columns }> {
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

/** A signing secret, and its ciphertext as the older release encrypted it under SECRET for merchant mer_a2. */
export const OLD_SIGNING_SECRET = `whsec_${Buffer.alloc(32, 7).toString('base64')}`;
const OLD_CIPHERTEXT =
  'Ac+NOYEdwCplIYJ2EkIGiz6tM2cfcqT/MSH1ihHYGNNs3rd2krJyEAUw/wPwPonpXkUgkxN1Zk+p4N/yLkMt9Crbpv5aoQC3Z0KHvytPOw==';

export type Row = Readonly<Record<string, unknown>>;

/**
 * The hash by which the older release recognises a repeated callback. The hash does not include the channel's
 * timestamps.
 */
const OLD_CONTENT_HASH = createHash('sha256')
  .update('{"said":{"state":"paid","channelPaymentId":"T","amount":1000,"currency":"CNY"}}')
  .digest('base64url');

/**
 * Writes rows as the older release did, with statements that name only the columns of that release. There are two
 * merchants, and each has an account at both channels.
 * @param w is part of every id, so that the ledger can be written several times
 */
export async function writeLedger(url: string, columns: Columns, w: string): Promise<void> {
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
  /** Writes a payment and its order. The order's status is derived from the payment's changes. */
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
  const answered = {
    ...{ channel_state: 'paid', channel_answered_at: ago(3 * MINUTE), channel_state_count: 1 },
    channel_answer: { ...answer, paidAt: ago(4 * MINUTE).toISOString() },
  };
  const money = {
    ...{ ...answered, status: 'succeeded', order_update: 'applied', order_updated_at: ago(MINUTE) },
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
      // The older release inserts the account again at every start. This has no effect.
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
  await payment('unsettled', answered);
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
  // Refunds that were made outside nodrop. The older release stored no channel refund id for them.
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

/** Reads all rows of each table, but only the columns that the older release had. */
export async function rowsOf(url: string, columns: Columns): Promise<Map<string, Row[]>> {
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

/**
 * Describes the columns, constraints, indexes, triggers and functions of the schema. Each line describes one of
 * them.
 */
export async function schemaOf(url: string): Promise<string[]> {
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

export const unsound = (url: string) =>
  queryOnce(
    url,
    `select conname::text as name from pg_constraint
       where connamespace = 'public'::regnamespace and not convalidated
     union all select indexrelid::regclass::text from pg_index where not (indisvalid and indisready and indislive)`,
  );
