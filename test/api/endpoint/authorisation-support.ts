import { randomUUID } from 'node:crypto';
import { expect } from 'vitest';
import type { Api } from '../../../src/api/api-deps.ts';
import { createEndpoints } from '../../../src/api/app.ts';
import type { Endpoint } from '../../../src/api/endpoint/endpoint.ts';
import { newDeliveryId, newEventId } from '../../../src/domain/ids.ts';
import { storeCallback } from '../../../src/ledger/callbacks.ts';
import { createApiKey, revokeApiKey } from '../../../src/ledger/merchants.ts';
import { settlePayment } from '../../../src/ledger/payments.ts';
import { ofTrade } from '../../support/callback.ts';
import { queryOnce, useDatabase } from '../../support/stack.ts';
import { type Answer, newKey, newOrderId, pay, startTestApi, type TestApi } from '../support.ts';

/**
 * Support for the tests of authorisation. It provides the declared routes, a payment to attack, credentials that must
 * not open this payment, and checks of a refusal.
 */

/** Only the declarations of the routes are used here. No handler is called. */
export const endpoints = createEndpoints({
  config: { api: { publicUrl: 'https://pay.example' } },
} as unknown as Api);
export const guarded = endpoints.filter(({ auth }) => auth !== 'none');
export const open = endpoints.filter(({ auth }) => auth === 'none');
export const name = ({ method, path }: Endpoint) => `${method.toUpperCase()} ${path}`;

/** Routes that are open to everyone, because they show no merchant's data. Every other open route has its own test. */
export const PUBLIC = ['/healthz', '/readyz', '/openapi.json', '/docs', '/docs/problems'];
export const PROVEN_OTHERWISE = [
  '/callbacks/{channel}',
  '/callbacks/{channel}/{accountId}',
  '/callbacks/{channel}/{accountId}/{paymentId}/{proof}',
  '/return/{id}',
  '/checkout/{id}',
];

/** The query parameters that a list route requires. */
const QUERIES: Readonly<Record<string, string>> = { '/v1/callbacks': '?unmatched=true' };

/** The API refuses this request even with a valid token, because the victim's payment is already paid. */
export const PAID_ALREADY = { '/v1/payments/{id}/switch': true };

/** A merchant with one row of each kind. No other caller may see any of its data. */
interface Victim {
  readonly merchantId: string;
  readonly key: string;
  readonly operatorKey: string;
  readonly orderId: string;
  readonly paymentId: string;
  readonly token: string;
  readonly refundId: string;
  readonly deliveryId: string;
  readonly expiresAt: number;
  /** Texts that no other caller may ever see. */
  readonly secrets: readonly string[];
}

const { databaseUrl } = useDatabase();
export let api: TestApi;
/** An API whose clock shows one day after the expiry of all tokens of the tests. */
export let later: TestApi;
export let victim: Victim;
export let stranger: Awaited<ReturnType<typeof newKey>> & { operatorKey: string; token: string };
export let revokedKey: string;

/**
 * Creates both APIs and all callers again. Without this step the test's own address would get 429, because it has sent
 * sixty wrong keys in a minute.
 */
export async function begin(): Promise<void> {
  api = await startTestApi(databaseUrl);
  victim = await newVictim();
  const now = new Date(victim.expiresAt + 24 * 3_600_000 + 1);
  later = await startTestApi(databaseUrl, { now: () => now });
  const made = await newKey(api.db);
  const { key: operatorKey } = await createApiKey(api.db, made.merchantId, 'operator');
  stranger = { ...made, operatorKey, token: (await pay(api, made.key)).clientToken };
  const revoked = await createApiKey(api.db, victim.merchantId, 'operator');
  await revokeApiKey(api.db, revoked.id, new Date());
  revokedKey = revoked.key;
  forgetCalls();
}

function forgetCalls(): void {
  for (const { workflows, deliveryWorkflows } of [api, later]) {
    workflows.calls.length = 0;
    deliveryWorkflows.calls.length = 0;
  }
}

export async function end(): Promise<void> {
  await Promise.all([api.close(), later.close()]);
}

async function newVictim(): Promise<Victim> {
  const { key, merchantId } = await newKey(api.db);
  const { key: operatorKey } = await createApiKey(api.db, merchantId, 'operator');
  const mark = `secret-${randomUUID()}`;
  const orderId = newOrderId();
  const order = { id: orderId, amount: 1050, currency: 'CNY', subject: mark, metadata: { mark } };
  const paid = await pay(api, key, { order, metadata: { mark } });
  const account = await api.db.channelAccount.findFirstOrThrow({
    where: { merchantId, channel: 'simulator' },
  });
  const now = new Date();
  const answer = {
    state: 'paid',
    channelPaymentId: `T-${mark}`,
    amount: 1050,
    currency: 'CNY',
    paidAt: now.toISOString(),
  } as const;
  const callback = (outTradeNo: string) =>
    storeCallback(
      api.db,
      account.id,
      ofTrade({ notificationId: randomUUID(), outTradeNo, answer }),
      Buffer.from('{}'),
      now,
    );
  await callback(paid.id);
  await settlePayment(api.db, paid.id, now);
  const unmatched = await callback(`foreign_${Math.random().toString(36).slice(2)}`);
  const refundId = `re_${randomUUID().replaceAll('-', '').slice(0, 26)}`;
  await api.db.refund.create({
    data: { id: refundId, merchantId, paymentId: paid.id, amount: 1n, currency: 'CNY', reason: 'requested' },
  });
  const [eventId, deliveryId] = [newEventId(), newDeliveryId()];
  const event = { id: eventId, merchantId, paymentId: paid.id, type: 'refund.failed', version: 1_000 };
  await api.db.event.create({
    data: { ...event, data: { payment: { id: paid.id }, order: { id: orderId } } },
  });
  await api.db.delivery.create({
    data: {
      ...{ id: deliveryId, eventId, merchantId, paymentId: paid.id },
      log: { create: { outcome: 'unknown', detail: mark, durationMs: 1 } },
    },
  });
  return {
    ...{ merchantId, key, operatorKey, orderId, refundId, deliveryId },
    paymentId: paid.id,
    token: paid.clientToken,
    expiresAt: Date.parse(paid.expiresAt),
    secrets: [
      mark,
      orderId,
      paid.id,
      refundId,
      eventId,
      deliveryId,
      paid.clientToken,
      unmatched.outTradeNo,
      account.id,
      merchantId,
    ],
  };
}

/** Replaces `{id}` in a path with the id of an object. The path decides the kind of the object. */
function fill(path: string, { orderId, paymentId, refundId, deliveryId }: Victim): string {
  if (!path.includes('{')) return path + (QUERIES[path] ?? '');
  const kinds = {
    '/v1/orders/': orderId,
    '/v1/payments/': paymentId,
    '/v1/refunds/': refundId,
    '/v1/deliveries/': deliveryId,
  };
  const [, id] = Object.entries(kinds).find(([start]) => path.startsWith(start)) ?? [];
  if (id === undefined || path.split('{').length > 2) throw new Error(`Add the id of ${path} to this test.`);
  return path.replace('{id}', id);
}

export function ask(endpoint: Endpoint, key: string | undefined, through = api): Promise<Answer> {
  const [example] = Object.values(endpoint.bodyExamples ?? {});
  const takesBody = typeof endpoint.body === 'object';
  if (takesBody && example === undefined) throw new Error(`Give ${name(endpoint)} an example of its body.`);
  return through.call(fill(endpoint.path, victim), {
    method: endpoint.method.toUpperCase(),
    headers: { 'idempotency-key': randomUUID() },
    ...(key === undefined ? {} : { key }),
    ...(takesBody ? { body: example?.value } : {}),
  });
}

/** The content of the whole database, one text per table. */
export async function everything(): Promise<unknown> {
  const tables = await queryOnce(
    databaseUrl,
    "select tablename as name from pg_tables where schemaname = 'public' order by 1",
  );
  const digests = tables.map(
    ({ name: table }) =>
      `select '${table}' as name, md5(string_agg(r::text, '|' order by r::text)) as digest from "${table}" as r`,
  );
  return await queryOnce(databaseUrl, digests.join(' union all '));
}

/** All rows that belong to the victim. */
export const victims = () =>
  api.db.merchant.findUniqueOrThrow({
    where: { id: victim.merchantId },
    include: {
      apiKeys: true,
      channelAccounts: { include: { callbacks: true, unverified: true } },
      orders: true,
      payments: { include: { timeline: true } },
      refunds: true,
      signingSecrets: true,
      events: true,
      deliveries: { include: { log: true } },
      idempotencyKeys: true,
    },
  });

/**
 * Expects that the request is refused with this status and code and has no effect, and that the answer contains none of
 * the victim's data.
 */
export async function expectRefused(asking: () => Promise<Answer>, status: number, code: string | RegExp) {
  const before = await everything();
  const answer = await asking();
  expect(answer.status, answer.text).toBe(status);
  expect(answer.json.code).toMatch(code);
  expect(answer.headers.get('www-authenticate')).toBe(status === 401 ? 'Bearer realm="nodrop"' : null);
  for (const secret of victim.secrets) {
    // A refusal may repeat what the caller sent, so those parts are left out of this check.
    expect(answer.text.replaceAll(answer.json.instance, '').replaceAll(answer.json.detail, '')).not.toContain(
      secret,
    );
  }
  expect(await everything()).toEqual(before);
  for (const { workflows, deliveryWorkflows } of [api, later])
    expect([...workflows.calls, ...deliveryWorkflows.calls]).toEqual([]);
}
