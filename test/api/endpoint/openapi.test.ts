import { chromium } from 'playwright-core';
import { expect, test } from 'vitest';
import { createEndpoints } from '../../../src/api/app.ts';
import { refusalsOf } from '../../../src/api/endpoint/openapi.ts';
import { STREAMS } from '../../../src/api/http/event-stream.ts';
import { FailedLookups } from '../../../src/api/http/failed-lookups.ts';
import { StreamSlots } from '../../../src/api/http/stream-slots.ts';
import { createAskChannel } from '../../../src/api/payments/ask-channel.ts';
import { Readiness } from '../../../src/api/readiness.ts';
import { ATTENTION_NAMES } from '../../../src/domain/attention.ts';
import { DELIVERY_STATUSES, EVENT_TYPES } from '../../../src/domain/event.ts';
import { REFUSALS } from '../../../src/domain/refusal.ts';
import {
  ORDER_STATUSES,
  ORDER_UPDATES,
  PAYER_ORDER_STATES,
  PAYMENT_STATUSES,
  REFUND_REASONS,
  REFUND_STATUSES,
  SETTLED_BY,
} from '../../../src/domain/states.ts';
import { findChromium } from '../../support/chromium.ts';
import { setUp } from '../support.ts';

// Tests that the OpenAPI document describes what the API does. Both come from the same declarations.

interface Operation {
  readonly operationId: string;
  readonly parameters?: readonly { readonly in: string; readonly name: string }[];
  readonly responses: Readonly<Record<string, Response>>;
}

interface Response {
  readonly content?: Readonly<Record<string, { readonly schema: Schema }>>;
}

interface Schema {
  readonly $ref?: string;
  readonly type?: string | readonly string[];
  readonly format?: string;
  readonly enum?: readonly unknown[];
  readonly const?: unknown;
  readonly default?: unknown;
  readonly required?: readonly string[];
  readonly anyOf?: readonly Schema[];
  readonly oneOf?: readonly Schema[];
  readonly allOf?: readonly Schema[];
  readonly items?: Schema;
  readonly properties?: Readonly<Record<string, Schema>>;
}

const { api } = await setUp();
const endpoints = createEndpoints({
  now: () => new Date(),
  requireSecret: async () => {},
  configured: [],
  streams: STREAMS,
  ...api.deps,
  askChannel: createAskChannel(api.deps),
  readiness: new Readiness(api.deps, () => new Date()),
  streamSlots: new StreamSlots(STREAMS),
  unverified: api.unverified,
  failedLookups: new FailedLookups(
    () => new Date(),
    async () => new Set(),
  ),
});
// biome-ignore lint/suspicious/noExplicitAny: a JSON document.
const document: any = (await api.call('/openapi.json')).json;

test('the OpenAPI document has exactly the routes of the app', () => {
  const described = Object.entries(document.paths).flatMap(([path, methods]) =>
    Object.keys(methods as object).map((method) => `${method} ${path}`),
  );
  expect(described.sort()).toEqual(endpoints.map(({ method, path }) => `${method} ${path}`).sort());
});

test('in the OpenAPI document all references resolve, all ids are unique and all path parameters are described', () => {
  expect(document.openapi).toBe('3.1.0');
  const text = JSON.stringify(document);
  const references = [...text.matchAll(/"\$ref":"#\/components\/schemas\/(\w+)"/g)].map(
    ([, name]) => name ?? '',
  );
  expect(references.length).toBeGreaterThan(5);
  for (const name of references) expect(Object.keys(document.components.schemas)).toContain(name);
  const ids: string[] = [];
  for (const [path, methods] of Object.entries<Record<string, Operation>>(document.paths)) {
    for (const operation of Object.values(methods)) {
      ids.push(operation.operationId);
      const inPath = (operation.parameters ?? [])
        .filter((parameter) => parameter.in === 'path')
        .map(({ name }) => name);
      expect(inPath).toEqual([...path.matchAll(/\{(\w+)\}/g)].map(([, name]) => name));
      expect(Object.keys(operation.responses).length).toBeGreaterThan(0);
    }
  }
  expect(new Set(ids).size).toBe(ids.length);
});

test('the OpenAPI document has a webhook for every event, with its headers, its body and the meaning of the answers', () => {
  expect(Object.keys(document.webhooks)).toEqual([...EVENT_TYPES]);
  const ids = new Set<string>();
  for (const type of EVENT_TYPES) {
    const { post } = document.webhooks[type];
    ids.add(post.operationId);
    expect(post.parameters.map(({ name }: { name: string }) => name)).toEqual([
      'webhook-id',
      'webhook-timestamp',
      'webhook-signature',
    ]);
    expect(Object.keys(post.responses).sort()).toEqual(['2XX', '404', '409', '410']);
    const { schema } = post.requestBody.content['application/json'];
    expect(schema.required).toEqual(['type', 'timestamp', 'data']);
    expect(schema.properties.type.enum).toEqual([type]);
    const name = type.startsWith('refund.') ? 'RefundEventData' : 'PaymentEventData';
    expect(schema.properties.data.$ref).toBe(`#/components/schemas/${name}`);
  }
  expect(ids.size).toBe(EVENT_TYPES.length);
  const { EventPayment, EventOrder, EventRefund, Payment, Order, Refund } = document.components.schemas;
  const without = (schema: { properties: object }, ...names: string[]) =>
    Object.keys(schema.properties).filter((name) => !names.includes(name));
  expect(Object.keys(EventPayment.properties)).toEqual(
    without(
      Payment,
      'adopted',
      'refundReason',
      'refundStatus',
      'nextAction',
      'payUrl',
      'checkoutUrl',
      'disputes',
      'clientToken',
      'payer',
      'returnUrl',
      'temporalUrl',
    ),
  );
  expect(Object.keys(EventOrder.properties)).toEqual(without(Order, 'payments'));
  expect(Object.keys(EventRefund.properties)).toEqual(without(Refund, 'temporalUrl'));
});

test('request fields that change a live payment have no default, so that a generated client does not send them unintentionally', () => {
  const { properties } = document.components.schemas.NewPayment;
  for (const name of ['payer', 'returnUrl', 'metadata', 'expiresInSeconds'])
    expect([name, properties[name].default]).toEqual([name, undefined]);
});

test('the fields of an order change have no default, because a field that is absent leaves the order unchanged', () => {
  const { properties } = document.components.schemas.OrderChange;
  expect(Object.keys(properties)).toEqual(['amount', 'subject', 'expiresInSeconds', 'metadata']);
  for (const property of Object.values<object>(properties)) expect(property).not.toHaveProperty('default');
});

/** Returns a schema of the document. If the schema is a reference, returns the schema that it points to. */
function resolved(schema: Schema): Schema {
  const name = schema.$ref?.split('/').at(-1);
  return name === undefined ? schema : resolved(document.components.schemas[name]);
}

/**
 * Returns a schema and all schemas inside it, each with its path. `isOpen` is true if every text is valid at that path,
 * not only the listed values.
 */
function* schemasWithin(schema: Schema, path: string, isOpen = false): Generator<[string, Schema, boolean]> {
  const it = resolved(schema);
  yield [path, it, isOpen];
  const branches = [...(it.anyOf ?? []), ...(it.oneOf ?? [])];
  const takesText = branches.map(resolved).some(({ type, enum: values }) => type === 'string' && !values);
  for (const branch of branches) yield* schemasWithin(branch, path, isOpen || takesText);
  for (const part of it.allOf ?? []) yield* schemasWithin(part, path, isOpen);
  for (const [name, property] of Object.entries(it.properties ?? {}))
    yield* schemasWithin(property, `${path}.${name}`);
  if (it.items !== undefined) yield* schemasWithin(it.items, `${path}[]`);
}

/** Returns the values that the document lists for a text field, and checks that the field also accepts other texts. */
function knownOf(schema: Schema) {
  const branches = resolved(schema).anyOf?.map(resolved) ?? [];
  expect(branches).toContainEqual({ type: 'string' });
  return branches.find((branch) => branch.enum !== undefined)?.enum;
}

test('the OpenAPI document lists the known statuses as literals, and allows other values', () => {
  const { schemas } = document.components;
  const sets = [
    ['Order', 'status', ORDER_STATUSES],
    ['Payment', 'status', PAYMENT_STATUSES],
    ['Payment', 'orderUpdate', ORDER_UPDATES],
    ['Payment', 'settledBy', SETTLED_BY],
    ['Payment', 'attention', ATTENTION_NAMES],
    ['Payment', 'refundStatus', REFUND_STATUSES],
    ['Payment', 'refundReason', REFUND_REASONS],
    ['EventPayment', 'status', PAYMENT_STATUSES],
    ['PaymentForPayer', 'orderState', PAYER_ORDER_STATES],
    ['Refund', 'status', REFUND_STATUSES],
    ['Refund', 'reason', REFUND_REASONS],
    ['Event', 'type', EVENT_TYPES],
    ['Delivery', 'status', DELIVERY_STATUSES],
    ['Problem', 'code', Object.keys(REFUSALS)],
  ] as const;
  for (const [name, property, values] of sets)
    expect([name, property, knownOf(schemas[name].properties[property])]).toEqual([name, property, values]);
});

test('the OpenAPI document explains every attention at each field that shows it', () => {
  const { Payment, EventPayment } = document.components.schemas;
  for (const { properties } of [Payment, EventPayment])
    for (const name of ATTENTION_NAMES) expect(properties.attention.description).toContain(`\`${name}\`: `);
});

test('for each route the OpenAPI document lists the codes of its refusals as literals', () => {
  for (const endpoint of endpoints) {
    const { responses } = document.paths[endpoint.path][endpoint.method];
    const codes = Object.values<Response>(responses)
      .map(({ content }) => content?.['application/problem+json']?.schema)
      .filter((schema) => schema !== undefined)
      .map((schema) => knownOf(resolved(schema).properties?.code ?? {}));
    for (const known of codes) expect([endpoint.path, known]).toEqual([endpoint.path, refusalsOf(endpoint)]);
    expect(codes.length).toBeGreaterThan(0);
  }
});

test('according to the OpenAPI document an answer may contain values that are added in later versions', () => {
  const closed = new Set<string>();
  let sets = 0;
  for (const [path, methods] of Object.entries<Record<string, Operation>>(document.paths)) {
    for (const [method, { responses }] of Object.entries(methods)) {
      for (const { content } of Object.values<Response>(responses)) {
        for (const { schema } of Object.values(content ?? {})) {
          for (const [where, part, isOpen] of schemasWithin(schema, `${method} ${path}`)) {
            const isClosed = part.enum !== undefined || part.const !== undefined;
            if (isClosed && !isOpen) closed.add(where);
            if (isClosed) sets += 1;
          }
        }
      }
    }
  }
  expect([...closed]).toEqual([]);
  expect(sets).toBeGreaterThan(50);
});

test('no named schema of the OpenAPI document is nullable itself, because its value may be null in only some places', () => {
  for (const [name, { type }] of Object.entries<Schema>(document.components.schemas))
    expect([name, type]).not.toEqual([name, expect.arrayContaining(['null'])]);
});

test('amounts have the format int64 in the OpenAPI document', () => {
  let amounts = 0;
  for (const [name, schema] of Object.entries<Schema>(document.components.schemas)) {
    for (const [property, { type, format }] of Object.entries(schema.properties ?? {})) {
      if (!/amount$/i.test(property) || !type?.includes('integer')) continue;
      expect([name, property, format]).toEqual([name, property, 'int64']);
      amounts += 1;
    }
  }
  expect(amounts).toBeGreaterThan(8);
});

test('the OpenAPI document states no default of a request field, and marks a field that has a default as optional', () => {
  // If a field had a default, code generators would make the field required.
  let properties = 0;
  for (const { path, method, body } of endpoints) {
    if (typeof body !== 'object') continue;
    const { schema } = document.paths[path][method].requestBody.content['application/json'];
    for (const [where, part] of schemasWithin(schema, `${method} ${path}`)) {
      expect([where, part.default]).toEqual([where, undefined]);
      properties += 1;
    }
  }
  expect(properties).toBeGreaterThan(10);
  const { NewPayment, NewOrder } = document.components.schemas;
  for (const { required } of [NewPayment, NewOrder]) expect(required).not.toContain('metadata');
});

test('every route that reads a body documents the refusal of an unknown content encoding', async () => {
  for (const { path, method, body } of endpoints) {
    if (body === undefined) continue;
    const { responses } = document.paths[path][method];
    expect([path, Object.keys(responses)]).toEqual([path, expect.arrayContaining(['400', '413', '415'])]);
  }
  const answer = await api.call('/callbacks/simulator', {
    raw: '{}',
    headers: { 'content-encoding': 'zip' },
  });
  expect([answer.status, answer.json.code]).toEqual([415, 'unsupported_media_type']);
});

test('the OpenAPI document has every error code, with its status and an example', () => {
  // Some refusals belong to no route. They come from the router, from the parsing of malformed requests, and from the
  // admin listener.
  const everywhere = new Set([
    'method_not_allowed',
    'request_timeout',
    'headers_too_large',
    'misdirected_request',
  ]);
  for (const code of Object.keys(REFUSALS)) {
    if (everywhere.has(code)) continue;
    const endpoint = endpoints.find((one) => refusalsOf(one).some((refusal) => refusal === code));
    expect(endpoint, code).toBeDefined();
    const { status } = REFUSALS[code as keyof typeof REFUSALS];
    const answer = document.paths[endpoint?.path ?? ''][endpoint?.method ?? ''].responses[status];
    expect(answer.content['application/problem+json'].examples[code].value).toMatchObject({ code, status });
  }
});

/** The system's Chromium. On a machine without Chromium, only the test of the documentation page is skipped. */
const CHROMIUM = findChromium();

test.skipIf(CHROMIUM === undefined)(
  'the documentation page shows the OpenAPI document under a strict Content-Security-Policy, and loads nothing from other hosts',
  async () => {
    const browser = await chromium.launch({
      ...(CHROMIUM === undefined ? {} : { executablePath: CHROMIUM }),
      args: ['--no-sandbox'],
    });
    try {
      const page = await browser.newPage();
      const complaints: string[] = [];
      page.on('console', (message) => complaints.push(message.text()));
      page.on('pageerror', (error) => complaints.push(error.message));
      page.on('request', (request) => {
        const url = request.url();
        if (!url.startsWith(api.url) && !url.startsWith('data:')) complaints.push(`asks ${url}`);
      });
      const answer = await page.goto(`${api.url}/docs`);
      expect(answer?.headers()['content-security-policy']).not.toContain('unsafe');
      await page.waitForSelector('#operations-Payments-createPayment');
      await page.click('#operations-Payments-createPayment .opblock-summary-control');
      await page.waitForSelector('text=a payer who presses pay twice makes one payment');
      expect(complaints).toEqual([]);
    } finally {
      await browser.close();
    }
  },
);
