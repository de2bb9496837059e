import { beforeAll, expect, test } from 'vitest';
import { MAX_AMOUNT } from '../../src/domain/money.ts';
import { Prisma } from '../../src/generated/prisma/client.ts';
import { ensureMerchant } from '../../src/ledger/merchants.ts';
import {
  assignments,
  CALLBACKS,
  columnsAndValues,
  ORDERS,
  PAYMENTS,
  type RawRow,
  REFUNDS,
  readRow,
  rowsOf,
} from '../../src/ledger/raw-rows.ts';
import type { Order, Payment } from '../../src/ledger/rows.ts';
import { write } from '../../src/ledger/write-decision.ts';
import { setTimeZone, useDatabase } from '../support/stack.ts';

/** Tests that raw statements read and write the same rows as Prisma. The rows have extreme values in every column. */

const { db, databaseUrl } = useDatabase();
let merchantId: string;
let channelAccountId: string;
beforeAll(async () => {
  // PostgreSQL writes times in JSON in the session's time zone, and Prisma's adapter ignores time zones. So the test
  // uses a time zone other than UTC.
  await setTimeZone(databaseUrl, 'Asia/Kolkata');
  merchantId = (await ensureMerchant(db, 'shop', ['simulator'])).merchant.id;
  channelAccountId = (await db.channelAccount.findFirstOrThrow({ where: { merchantId } })).id;
});

const LARGEST = BigInt(MAX_AMOUNT);
const LARGEST_INT = 2 ** 31 - 1;
const EARLY = new Date('0001-01-01T00:00:00.001Z');
const LATE = new Date('9999-12-31T23:59:59.999Z');
const TEXT = `'"\\ $1 ::jsonb \t\n\u2028 \u{1f389} e\u0301 \u05d0`;
const JSON_VALUE = {
  increment: 1,
  [TEXT]: TEXT,
  nothing: null,
  empty: {},
  list: [null, [], [1, -0.5, 1e21, 5e-324], { deep: [{ deeper: [TEXT, true, false, null] }] }],
  numbers: [MAX_AMOUNT, -MAX_AMOUNT, Number.MAX_VALUE],
};

type Values = Readonly<Record<string, unknown>>;
interface Way {
  readonly read: (id: string) => Promise<object>;
  readonly insert: (row: Values) => Promise<unknown>;
  readonly update: (id: string, changes: Values) => Promise<unknown>;
}
interface Case {
  readonly table: { readonly name: string; readonly kinds: object };
  readonly prisma: Way;
  /** A new row. */
  readonly row: (id: string) => Values;
  /** Creates the rows that the new row refers to. */
  readonly before?: (id: string) => Promise<unknown>;
  /** Creates the rows that the changes refer to. */
  readonly prepare?: (id: string) => Promise<unknown>;
  /** The changes are applied one after the other. Together with the new row they fill every column. */
  readonly changes: readonly ((id: string) => Values)[];
}

const toNull = (names: readonly string[]): Values => Object.fromEntries(names.map((name) => [name, null]));
const where = (id: string) => ({ merchantId_id: { merchantId, id } });
const newPayment = (id: string, orderId: string) => ({
  ...{ id, merchantId, orderId, channel: TEXT, channelAccountId, method: id, amount: LARGEST },
  ...{ currency: 'CNY', subject: TEXT, clientTokenHash: TEXT, createdAt: EARLY, expiresAt: LATE },
  updatedAt: EARLY,
});

const ORDER_FIELDS = {
  ...{ subject: TEXT, metadata: JSON_VALUE, expiresAt: LATE, cancelRequestedAt: EARLY, recoveredAt: LATE },
  ...{ nextSweepAt: EARLY, updatedAt: LATE },
} satisfies Partial<Order>;
const PAYMENT_FIELDS = {
  ...{ account: TEXT, createAskedAt: EARLY, noActionSince: LATE, closeNotBefore: LATE },
  ...{ status: 'paying', nextAction: JSON_VALUE, channelState: TEXT, channelAnsweredAt: EARLY },
  ...{ channelStateSince: LATE, channelStateCount: LARGEST_INT, channelErrorSince: EARLY },
  ...{
    channelAnswer: [JSON_VALUE, null],
    attention: 'disputed',
    attentionSince: LATE,
    attentionDetail: TEXT,
  },
  ...{
    hiddenAttention: 'amount_mismatch',
    hiddenAttentionSince: LATE,
    hiddenAttentionDetail: TEXT,
    disputes: JSON_VALUE,
  },
  ...{ referenceData: JSON_VALUE, noticedAt: EARLY },
  ...{ payer: 'a text', returnUrl: TEXT, metadata: JSON_VALUE, lastHintAt: LATE, tightPhases: LARGEST_INT },
  ...{ lastQueryDueAt: EARLY, unverifiedQueries: LARGEST_INT, eventVersion: LARGEST_INT, nextSweepAt: LATE },
  ...{ workflowBusySince: EARLY, expiresAt: EARLY, cancelRequestedAt: LATE, endedAt: EARLY, updatedAt: LATE },
} satisfies Partial<Payment>;
const SETTLED = {
  ...{ status: 'succeeded', orderUpdate: 'conflict', settledBy: 'callback', channelPaymentId: TEXT },
  ...{ receivedAmount: LARGEST, receivedCurrency: 'KWD', payerAmount: LARGEST, refundedAmount: LARGEST },
  ...{ paidAt: EARLY, settledAt: LATE, orderUpdatedAt: EARLY, updatedAt: EARLY, recoveredAt: LATE },
} satisfies Partial<Payment>;

const CASES = {
  orders: {
    table: ORDERS,
    prisma: {
      read: (id) => db.order.findUniqueOrThrow({ where: where(id) }),
      insert: (data) => db.order.create({ data: data as Prisma.OrderUncheckedCreateInput }),
      update: (id, data) => db.order.update({ where: where(id), data }),
    },
    row: (id) => ({
      merchantId,
      id,
      amount: LARGEST,
      currency: 'CNY',
      subject: '',
      createdAt: EARLY,
      updatedAt: LATE,
    }),
    prepare: (id) => db.payment.create({ data: newPayment(`p_${id}`, id) }),
    changes: [
      () => ORDER_FIELDS,
      () => toNull(['expiresAt', 'cancelRequestedAt', 'recoveredAt', 'nextSweepAt']),
      (id) => ({ status: 'succeeded', paidPaymentId: `p_${id}`, paidAt: EARLY }),
    ],
  },
  payments: {
    table: PAYMENTS,
    prisma: {
      read: (id) => db.payment.findUniqueOrThrow({ where: { id } }),
      insert: async (data) => {
        const order = {
          merchantId,
          id: data.orderId as string,
          amount: LARGEST,
          currency: 'CNY',
          subject: '',
          createdAt: EARLY,
        };
        await db.order.upsert({ where: where(order.id), create: order, update: {} });
        await db.payment.create({ data: data as Prisma.PaymentUncheckedCreateInput });
      },
      update: (id, data) => db.payment.update({ where: { id }, data }),
    },
    row: (id) => newPayment(id, 'an order'),
    changes: [
      (id) => ({ ...PAYMENT_FIELDS, reference: `${TEXT} ${id}` }),
      () => ({ payer: JSON_VALUE, channelAnswer: JSON_VALUE }),
      () =>
        toNull([
          ...['account', 'reference', 'referenceData', 'createAskedAt', 'noActionSince', 'closeNotBefore'],
          ...['nextAction', 'channelState', 'channelAnsweredAt', 'channelStateSince', 'channelErrorSince'],
          ...['channelAnswer', 'attention', 'attentionSince', 'attentionDetail', 'payer', 'returnUrl'],
          ...['hiddenAttention', 'hiddenAttentionSince', 'hiddenAttentionDetail', 'disputes', 'noticedAt'],
          ...['lastHintAt', 'lastQueryDueAt', 'nextSweepAt', 'workflowBusySince', 'cancelRequestedAt'],
          'endedAt',
        ]),
      (id) => ({ ...SETTLED, reference: `${TEXT} ${id}`, adopted: 'own' }),
    ],
  },
  callbacks: {
    table: CALLBACKS,
    prisma: {
      read: (id) => db.callback.findUniqueOrThrow({ where: { id }, omit: { body: true } }),
      insert: (data) => db.callback.create({ data: data as Prisma.CallbackUncheckedCreateInput }),
      update: (id, data) => db.callback.update({ where: { id }, data }),
    },
    row: (id) => ({
      ...{ id, channelAccountId, notificationId: `${TEXT} ${id}`, outTradeNo: TEXT, contentHash: TEXT },
      ...{ kind: 'notice', reference: TEXT, channelPaymentId: TEXT },
      ...{ answer: JSON_VALUE, body: new Uint8Array([0, 255]), receivedAt: EARLY },
    }),
    prepare: async (id) => {
      await CASES.payments.prisma.insert(newPayment(`p_${id}`, 'an order'));
    },
    changes: [
      (id) => ({ paymentId: `p_${id}`, answer: [], deliveredAt: LATE, nextSweepAt: EARLY }),
      () => toNull(['paymentId', 'deliveredAt', 'nextSweepAt', 'reference', 'channelPaymentId']),
    ],
  },
  refunds: {
    table: REFUNDS,
    prisma: {
      read: (id) => db.refund.findUniqueOrThrow({ where: { id } }),
      insert: (data) => db.refund.create({ data: data as Prisma.RefundUncheckedCreateInput }),
      update: (id, data) => db.refund.update({ where: { id }, data }),
    },
    row: (id) => ({
      ...{ id, merchantId, paymentId: `p_${id}`, amount: LARGEST - 1n, currency: 'CNY' },
      ...{ reason: 'requested', createdAt: EARLY, updatedAt: LATE },
    }),
    before: async (id) => {
      await CASES.payments.prisma.insert(newPayment(`p_${id}`, 'an order'));
      await CASES.payments.prisma.update(`p_${id}`, { ...SETTLED, refundedAmount: 0n });
      const other = { merchantId, paymentId: `p_${id}`, amount: 1n, currency: 'CNY', reason: 'requested' };
      await db.refund.create({ data: { ...other, id: `r_${id}` } });
    },
    changes: [
      (id) => ({
        ...{ askedAmount: LARGEST, status: 'failed', note: TEXT, idempotencyKey: `${TEXT} ${id}` },
        ...{ channelRefundId: TEXT, failure: TEXT, replacedBy: `r_${id}`, askedAt: EARLY },
        ...{
          unknownSince: LATE,
          attempt: 9,
          spentKeys: LARGEST_INT,
          keySpentAt: EARLY,
          absentAt: LATE,
          lookedAgainAt: EARLY,
        },
        ...{ nextSweepAt: EARLY, settledAt: LATE, updatedAt: EARLY },
      }),
      () =>
        toNull([
          ...['askedAmount', 'note', 'idempotencyKey', 'channelRefundId', 'failure', 'replacedBy'],
          ...['askedAt', 'unknownSince', 'nextSweepAt', 'settledAt'],
          ...['keySpentAt', 'absentAt', 'lookedAgainAt'],
        ]),
    ],
  },
} satisfies Record<string, Case>;

/** The raw statements that the ledger uses. */
function rawWay({ table }: Case): Way {
  const known = table as typeof PAYMENTS;
  const name = Prisma.raw(table.name);
  return {
    read: async (id) => {
      const select = Prisma.sql`SELECT to_jsonb(it) - 'body' AS row FROM ${name} AS it WHERE id = ${id}`;
      const [found] = await rowsOf<{ row: RawRow }>(db, select);
      return readRow(known, found?.row ?? {});
    },
    insert: async ({ body, ...row }) => {
      const { columns, values } = columnsAndValues(known, row);
      await (body === undefined
        ? db.$executeRaw`INSERT INTO ${name} (${columns}) VALUES (${values})`
        : db.$executeRaw`INSERT INTO ${name} (${columns}, body) VALUES (${values}, ${body})`);
    },
    update: async (id, changes) => {
      await db.$executeRaw`UPDATE ${name} SET ${assignments(known, changes)} WHERE id = ${id}`;
    },
  };
}

/** Prisma has a special value for SQL NULL in a JSON column. */
const forPrisma = ({ table: { kinds } }: Case, values: Values): Values =>
  Object.fromEntries(
    Object.entries(values).map(([name, value]) => [
      name,
      value === null && (kinds as Values)[name] === 'json' ? Prisma.DbNull : value,
    ]),
  );

/** Replaces the id in all texts of a row, so that the row can be compared with another one. */
const withoutId = (row: object, id: string) =>
  Object.fromEntries(
    Object.entries(row).map(([name, value]) => [
      name,
      typeof value === 'string' ? value.replace(id, 'ID') : value,
    ]),
  );

test.each(Object.keys(CASES) as (keyof typeof CASES)[])(
  'for the table %s, raw statements insert, change and read every column as Prisma does',
  async (name) => {
    const it: Case = CASES[name];
    const raw = rawWay(it);
    const [ours, theirs] = [`${name}_ours`, `${name}_theirs`];
    const filled = new Set<string>();
    let row: object = {};
    const compare = async (given: Values) => {
      row = await it.prisma.read(ours);
      const { body: _, ...read } = { body: undefined, ...given };
      expect(row).toMatchObject(read);
      expect(await raw.read(ours)).toEqual(row);
      const other = await it.prisma.read(theirs);
      expect(await raw.read(theirs)).toEqual(other);
      // Prisma sets `updatedAt` automatically.
      const updatedAt = { updatedAt: (row as Partial<Payment>).updatedAt };
      expect(withoutId({ ...other, ...updatedAt }, theirs)).toEqual(
        withoutId({ ...row, ...updatedAt }, ours),
      );
      for (const [column, value] of Object.entries(row)) if (value !== null) filled.add(column);
    };

    // Inserts the order of the payments before the payments.
    if (name === 'payments') await it.prisma.insert(newPayment('another', 'an order'));
    for (const id of [ours, theirs]) await it.before?.(id);
    await raw.insert(it.row(ours));
    await it.prisma.insert(it.row(theirs));
    await compare(it.row(ours));
    for (const id of [ours, theirs]) await it.prepare?.(id);
    for (const change of it.changes) {
      await raw.update(ours, change(ours));
      await it.prisma.update(theirs, forPrisma(it, change(theirs)));
      await compare(change(ours));
    }
    // This check fails if the table has a new column that this test does not fill.
    expect(Object.keys(row).filter((column) => !filled.has(column))).toEqual([]);
  },
);

test('JSON null, SQL NULL and times with microseconds are read as Prisma reads them', async () => {
  const id = 'nulls';
  await CASES.payments.prisma.insert(newPayment(id, 'an order'));
  const raw = rawWay(CASES.payments);
  for (const [payer, time] of [
    [`'null'::jsonb`, `'2026-11-27 10:00:00.123456+00'`],
    ['NULL', `'2026-11-27 10:00:00.9999+00'`],
    [`'[null]'::jsonb`, `'2026-11-27 10:00:00.5+05:30'`],
  ]) {
    await db.$executeRawUnsafe(
      `UPDATE payments SET payer = ${payer}, last_hint_at = ${time} WHERE id = '${id}'`,
    );
    expect(await raw.read(id)).toEqual(await CASES.payments.prisma.read(id));
  }
  expect(await raw.read(id)).toMatchObject({
    payer: [null],
    lastHintAt: new Date('2026-11-27T04:30:00.500Z'),
  });
});

test('the single raw statement of a transaction writes the same rows as several Prisma calls', async () => {
  const [ours, theirs] = ['write_ours', 'write_theirs'];
  for (const id of [ours, theirs]) await CASES.payments.prisma.insert(newPayment(id, id));
  const { updatedAt: _, ...order } = ORDER_FIELDS;
  const event = {
    ...{ merchantId, type: 'payment.closed', version: LARGEST_INT, data: JSON_VALUE, createdAt: LATE },
  } as const;
  const notes = ['first', TEXT].map(
    (detail) => ({ kind: 'query', detail, at: EARLY, data: JSON_VALUE }) as const,
  );
  const { updatedAt: __, ...fields } = PAYMENT_FIELDS;
  const payment = { ...fields, channelAnswer: null };

  await db.$transaction((tx) =>
    write(tx, { id: ours, merchantId, orderId: ours }, {
      ...{ payment, order, notes, deliveryId: `d_${ours}` },
      event: { ...event, id: `e_${ours}`, paymentId: ours },
    } as Parameters<typeof write>[2]),
  );
  await db.payment.update({ where: { id: theirs }, data: forPrisma(CASES.payments, payment) });
  await db.order.update({ where: where(theirs), data: order });
  await db.event.create({ data: { ...event, id: `e_${theirs}`, paymentId: theirs } });
  await db.delivery.create({
    data: { id: `d_${theirs}`, eventId: `e_${theirs}`, merchantId, paymentId: theirs, createdAt: LATE },
  });
  for (const note of notes) await db.timelineEntry.create({ data: { ...note, paymentId: theirs } });

  const written = async (id: string) => {
    const { order, timeline, events, deliveries, ...payment } = await db.payment.findUniqueOrThrow({
      where: { id },
      include: { order: true, events: true, deliveries: true, timeline: { orderBy: { id: 'asc' } } },
    });
    const entries = timeline.map(({ id: ___, ...entry }) => entry);
    const same = { updatedAt: EARLY };
    const rows = [{ ...payment, ...same }, { ...order, ...same }, ...entries, ...events, ...deliveries];
    return rows.map((row) => withoutId(row, id));
  };
  expect(await written(ours)).toEqual(await written(theirs));
  expect(await written(ours)).toHaveLength(6);
  const counted = await db.payment.findUniqueOrThrow({ where: { id: ours } });
  await db.payment.update({ where: { id: ours }, data: { channelStateCount: 1 } });
  await db.$executeRaw`
    UPDATE payments SET ${assignments(PAYMENTS, { channelStateCount: { increment: 2 } })} WHERE id = ${ours}`;
  expect(await db.payment.findUniqueOrThrow({ where: { id: ours } })).toEqual({
    ...counted,
    channelStateCount: 3,
    updatedAt: expect.any(Date),
  });
});

test('TypeScript rejects a table definition that lacks a column', () => {
  const { payer: _, ...withoutJson } = PAYMENTS.kinds;
  // @ts-expect-error a JSON column is missing
  const json: typeof PAYMENTS.kinds = withoutJson;
  const { amount: __, ...withoutAmount } = ORDERS.kinds;
  // @ts-expect-error an amount is missing
  const amount: typeof ORDERS.kinds = withoutAmount;
  const { deliveredAt: ___, ...withoutTime } = CALLBACKS.kinds;
  // @ts-expect-error a nullable time is missing
  const time: typeof CALLBACKS.kinds = withoutTime;
  expect([json, amount, time]).toHaveLength(3);
});
