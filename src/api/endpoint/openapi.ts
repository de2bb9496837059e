import {
  OpenAPIRegistry,
  OpenApiGeneratorV31,
  type ResponseConfig,
  type RouteConfig,
} from '@asteasolutions/zod-to-openapi';
import { EVENT_TYPES, type EventType, ORDER_UNKNOWN } from '../../domain/event.ts';
import { REFUSALS, type RefusalCode } from '../../domain/refusal.ts';
import { problemPath } from '../http/problems.ts';
import { z } from '../http/zod.ts';
import { idempotencyKey, problem, routeProblem } from '../schemas/common.ts';
import { eventOf } from '../schemas/event.ts';
import type { Endpoint } from './endpoint.ts';
import { IDEMPOTENCY_KEY, REPLAYED } from './idempotency.ts';

/** Builds the OpenAPI 3.1 document of the endpoints from the schemas that validate their requests. */
export function openApiDocument(endpoints: readonly Endpoint[], publicUrl: string) {
  const registry = new OpenAPIRegistry();
  // The schema of the fields that all problem documents share. No route refers to this schema directly.
  registry.register('Problem', problem);
  registry.registerComponent('securitySchemes', 'key', {
    type: 'http',
    scheme: 'bearer',
    description: "A merchant's or operator's key, `sk_...`.",
  });
  registry.registerComponent('securitySchemes', 'clientToken', {
    type: 'http',
    scheme: 'bearer',
    description: "A payment's client token, `ct_...`. Valid until 24 h after the payment's expiry.",
  });
  for (const endpoint of endpoints) registry.registerPath(toPath(endpoint, publicUrl));
  for (const type of EVENT_TYPES) registry.registerWebhook(toWebhook(type));
  return new OpenApiGeneratorV31(registry.definitions).generateDocument({
    openapi: '3.1.0',
    info: {
      title: 'nodrop',
      version: '1',
      license: { name: 'Apache-2.0', identifier: 'Apache-2.0' },
      description:
        'A durable payment service that does not lose payments. Versions within v1 only add fields and values: accept those you do not know. ' +
        'Amounts are whole numbers of minor units. Every call may be repeated: a repeated call has no further effect and gives the same result.',
    },
    servers: [{ url: publicUrl }],
    tags: [
      { name: 'Orders', description: 'What payers owe the merchant.' },
      { name: 'Payments', description: 'Attempts to pay an order through a channel.' },
      { name: 'Refunds', description: 'Money given back to payers.' },
      {
        name: 'Events',
        description:
          'What happened to payments and refunds, delivered to the order service and listed in the feed.',
      },
      {
        name: 'Channels and payers',
        description: 'Not for merchants: routes for the callbacks of channels and for payers.',
      },
      { name: 'Service', description: 'The service itself.' },
    ],
  });
}

const SECURITY: Readonly<Record<Endpoint['auth'], Record<string, string[]>[]>> = {
  key: [{ key: [] }],
  operator: [{ key: [] }],
  'key or token': [{ key: [] }, { clientToken: [] }],
  none: [],
};

function toPath(endpoint: Endpoint, publicUrl: string): RouteConfig {
  const { body, params, query } = endpoint;
  return {
    method: endpoint.method,
    path: endpoint.path,
    operationId: endpoint.operationId,
    tags: [endpoint.tag],
    summary: endpoint.summary,
    ...(endpoint.description === undefined ? {} : { description: endpoint.description }),
    security: SECURITY[endpoint.auth],
    request: {
      ...(params === undefined ? {} : { params }),
      ...(query === undefined ? {} : { query }),
      ...headersOf(endpoint),
      ...(body === undefined ? {} : { body: { required: true, content: requestContent(endpoint) } }),
    },
    responses: { ...answers(endpoint), ...refusals(endpoint, publicUrl) },
  };
}

const webhookHeaders = z.object({
  'webhook-id': z.string().openapi({
    description: 'The id of the event, the same in every delivery of it. Use it to detect duplicates.',
    example: 'evt_01JD7Z7C8Q6W4Y9V5T3R1P0N2M',
  }),
  'webhook-timestamp': z.string().openapi({
    description:
      'The time of this attempt, in seconds since 1970. Reject a request whose time is more than 5 minutes off.',
    example: '1795255200',
  }),
  'webhook-signature': z.string().openapi({
    description:
      '`v1,` and the base64 of HMAC-SHA256 over `id.timestamp.body`. The key is the secret without `whsec_`, base64-decoded. ' +
      'While secrets are rotated, the header has several signatures, separated by spaces: one valid signature is enough.',
    example: 'v1,K5oZfzN95Z9UVu1EsfQmfVNQhnkZ2pj9o9NDN/H/pI4=',
  }),
});

const orderUnknown = z.object({ code: z.literal(ORDER_UNKNOWN).optional() }).openapi('OrderUnknown');

const paidBy = z
  .object({
    paidPaymentId: z.string().openapi({ description: 'The id of the payment that paid the order.' }),
  })
  .openapi('PaidBy');

const WEBHOOKS: Readonly<Record<EventType, string>> = {
  'payment.succeeded': 'The money has arrived and pays the order: mark the order paid',
  'payment.conflict': 'The money has arrived, does not pay the order, and is refunded',
  'payment.review': 'The money has arrived, and an operator decides whether it pays the order',
  'payment.failed': 'The payment failed',
  'payment.cancelled': 'The payment is cancelled',
  'payment.closed': 'The payment ended unpaid',
  'refund.succeeded': 'Money was refunded to the payer',
  'refund.failed': 'A refund failed for good',
  'refund.reversed': 'A refund failed after it had succeeded: the merchant has the money again',
};

/** Describes the webhook that delivers events of this type to the merchant's order service. */
function toWebhook(type: EventType): RouteConfig {
  const pays = type === 'payment.succeeded';
  return {
    method: 'post',
    path: type,
    operationId: type.replace(/\.(.)/, (_, letter: string) => letter.toUpperCase()),
    tags: ['Events'],
    summary: WEBHOOKS[type],
    description:
      "Sent to the merchant's order service, signed as in [Standard Webhooks](https://www.standardwebhooks.com). After any " +
      'answer with a code that is not listed below, a redirect, or no answer, the delivery is retried. ' +
      'New event types may be added: answer 200 to types that you do not know.',
    security: [],
    request: {
      headers: webhookHeaders,
      body: { required: true, content: { 'application/json': { schema: eventOf(type) } } },
    },
    responses: {
      '2XX': {
        description: pays
          ? 'Accepted: this payment has paid the order, now or earlier. Answer only after you have stored that.'
          : 'Accepted.',
      },
      409: pays
        ? {
            description:
              'The order is paid by the payment `paidPaymentId`. If that is this payment, the answer counts as 2xx. If it is another payment, this payment is refunded.',
            content: { 'application/json': { schema: paidBy } },
          }
        : {
            description: 'With a `paidPaymentId`: accepted, and the event is not delivered again.',
            content: { 'application/json': { schema: paidBy } },
          },
      404: {
        description:
          'With the `code` `order_unknown`: the order service does not know the order. The delivery is retried for 24 h by default ' +
          '(`NODROP_ORDER_UNKNOWN_HOURS`) after the first such answer; then the answer counts as 410. Without the code, the delivery is retried forever, because a router may have answered.',
        content: { 'application/json': { schema: orderUnknown } },
      },
      410: {
        description:
          (pays
            ? 'The order no longer exists: the payment is refunded, or waits for the decision of an operator, as late payments do.'
            : 'The order no longer exists: the event is not delivered again.') +
          ' With the `code` `order_unknown` the answer counts as 404.',
      },
    },
  };
}

/**
 * The schema of the request headers. These are the headers that the endpoint declares, or `Idempotency-Key` if the
 * endpoint declares `replay`.
 */
function headersOf({ headers, replay }: Endpoint) {
  if (headers !== undefined) return { headers };
  return replay === undefined ? {} : { headers: idempotencyHeaders };
}

const idempotencyHeaders = z.object({
  [IDEMPOTENCY_KEY]: idempotencyKey.optional().openapi({
    description:
      'A key of your choice, new for every request. A repeated request with the same key does not run again. A definite result ' +
      'is kept for 30 days, and a repeated request gets its current state. After 202, 429, 5xx and temporary refusals ' +
      '(`attempt_unresolved`, `payer_differs`, `order_not_found`, `unknown_channel`, `currency_not_supported`, `amount_not_supported`) a repeated request runs again.',
    example: '7c0a4d1e-pay-order-1001',
  }),
});

const replayedHeaders = z.object({
  [REPLAYED]: z.literal('true').optional().openapi({
    description: 'Present if this is the result of an earlier request with the same Idempotency-Key.',
  }),
});

function requestContent({ body, bodyExamples }: Endpoint) {
  if (typeof body !== 'object')
    return { '*/*': { schema: { type: 'string' as const, contentEncoding: 'binary' } } };
  return {
    'application/json': {
      schema: body,
      ...(bodyExamples === undefined ? {} : { examples: { ...bodyExamples } }),
    },
  };
}

function answers(endpoint: Endpoint): Record<string, ResponseConfig> {
  return Object.fromEntries(
    Object.entries(endpoint.answers).map(([status, { description, schema, mediaType }]) => [
      status,
      {
        description,
        ...(endpoint.replay === undefined ? {} : { headers: replayedHeaders }),
        ...(schema === undefined && mediaType === undefined
          ? {}
          : {
              content: {
                [mediaType ?? 'application/json']: { schema: schema ?? { type: 'string' as const } },
              },
            }),
      },
    ]),
  );
}

/**
 * All problem codes that the endpoint can answer: its own codes, and the codes of the checks that run before its
 * handler.
 */
export function refusalsOf(endpoint: Endpoint): RefusalCode[] {
  const codes = new Set<RefusalCode>(endpoint.refusals);
  const add = (...more: RefusalCode[]) => more.forEach((code) => void codes.add(code));
  if (endpoint.auth !== 'none') add('unauthorized', 'too_many_requests', 'too_busy', 'database_unavailable');
  if (endpoint.auth === 'key' || endpoint.auth === 'operator') add('forbidden');
  if (endpoint.replay !== undefined)
    add('bad_request', 'idempotency_key_in_progress', 'idempotency_key_reused', 'database_unavailable');
  if (endpoint.params !== undefined) add('bad_request');
  if (endpoint.query !== undefined) add('invalid_request');
  if (endpoint.body !== undefined) add('bad_request', 'payload_too_large', 'unsupported_media_type');
  if (typeof endpoint.body === 'object') add('invalid_request');
  return [...codes, 'internal_error'];
}

function refusals(endpoint: Endpoint, publicUrl: string): Record<string, ResponseConfig> {
  const grouped = new Map<number, RefusalCode[]>();
  const all = refusalsOf(endpoint);
  const schema = routeProblem(endpoint.operationId, all);
  for (const code of all) {
    const { status } = REFUSALS[code];
    grouped.set(status, [...(grouped.get(status) ?? []), code]);
  }
  return Object.fromEntries(
    [...grouped]
      // If the endpoint itself declares an error status, as `/readyz` does, that answer is not a problem document.
      .filter(([status]) => endpoint.answers[status] === undefined)
      .map(([status, codes]) => [
        String(status),
        {
          description: codes.map((code) => `\`${code}\`: ${REFUSALS[code].title}.`).join('\n\n'),
          content: {
            'application/problem+json': {
              schema,
              examples: Object.fromEntries(codes.map((code) => [code, { value: example(code, publicUrl) }])),
            },
          },
        },
      ]),
  );
}

function example(code: RefusalCode, publicUrl: string) {
  const { status, title } = REFUSALS[code];
  return {
    type: `${publicUrl}${problemPath(code)}`,
    title,
    status,
    detail: code === 'invalid_request' ? 'amount: must be a whole number of minor units.' : `${title}.`,
    code,
    instance: '/v1/payments',
    requestId: '01JD7Z7C8Q6W4Y9V5T3R1P0N2M',
    ...(ERRORS[code] === undefined ? {} : { errors: ERRORS[code] }),
  };
}

/** Examples of `errors`, for refusals that name fields of the request. */
const ERRORS: Partial<Record<RefusalCode, { path: string; message: string }[]>> = {
  invalid_request: [{ path: 'amount', message: 'must be a whole number of minor units' }],
  order_exists: [{ path: 'order.amount', message: 'the order has 1050' }],
  payer_differs: [{ path: 'payer.id', message: 'payment pay_01JD7Z7C8Q6W4Y9V5T3R1P0N2M has another payer' }],
  idempotency_key_reused: [{ path: 'channel', message: 'differs from the first request with this key' }],
};
