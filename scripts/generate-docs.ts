// node scripts/run.mjs scripts/generate-docs.ts [--check]
//
// Generates documents from code. docs/configuration.md is generated from the settings in src/config.ts.
// docs/openapi.json is generated from the API's endpoints, and the types of clients/js from docs/openapi.json. The
// tables of attentions in docs/operations.md, of triggers in docs/sandbox.md and of channels in docs/channels/README.md
// are generated from their declarations. docs/events has one event body of each type. With --check the script writes
// nothing, and exits with 1 if a document is stale.
import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname } from 'node:path';
import { fileURLToPath } from 'node:url';
import { compile } from 'json-schema-to-typescript';
import type { Api } from '../src/api/api-deps.ts';
import { createEndpoints } from '../src/api/app.ts';
import { openApiDocument } from '../src/api/endpoint/openapi.ts';
import { z } from '../src/api/http/zod.ts';
import { DECLARATIONS } from '../src/channels/registry.ts';
import { settings } from '../src/config.ts';
import {
  ATTENTIONS,
  type AttentionDeclaration,
  OCCASIONS,
  SEVERITIES,
  UNSTORED_ATTENTIONS,
} from '../src/domain/attention.ts';
import type { MethodDeclaration } from '../src/domain/channel.ts';
import { sampleEvents } from '../src/ledger/event-samples.ts';
import { TRIGGERS, type TriggerDeclaration } from '../src/simulator/triggers.ts';

const root = fileURLToPath(new URL('..', import.meta.url));

/** The API's default address. */
const PUBLIC_URL = 'http://127.0.0.1:3000';

function configuration(): string {
  const { properties = {} } = z.toJSONSchema(settings, { io: 'input', unrepresentable: 'any' });
  const rows = Object.entries(properties).map(([name, property]) => {
    if (typeof property === 'boolean' || property.description === undefined) {
      throw new Error(`${name} has no description in src/config.ts.`);
    }
    const fallback = property.default === undefined ? '' : `\`${property.default}\``;
    return `| \`${name}\` | ${valuesOf(name, property)} | ${fallback} | ${property.description} |`;
  });
  return `# Configuration

<!-- Generated from \`settings\` in src/config.ts by \`npm run generate\`: edit there. -->

Every process reads its settings from the environment, once, when it starts. There is no settings file.

- An empty variable counts as not set.
- A wrong or missing setting stops the process with one sentence that names the setting.
- An unknown name that begins with \`NODROP_\` is rejected, because a misspelt setting would otherwise be ignored silently.
- Without \`DATABASE_URL\`, nodrop uses the embedded database. Its stack creates its own secrets in \`NODROP_HOME\` when
  it first starts; any other process refuses to start before that. With \`DATABASE_URL\` there is no default secret:
  \`NODROP_SECRET\` must be set.
- Reading the settings writes nothing.
- The database stores a fingerprint of its \`NODROP_SECRET\`. A process with another secret refuses to start, and reports
  where the right one is: see [Changing NODROP_SECRET](operations.md#changing-nodrop_secret).
- The database stores the accounts at channels and their secrets: see [Channels](channels/README.md). The simulator's
  accounts are written from its settings when a process starts.
- Downloaded or built tools (the Temporal server; for tests also the test server, Node and client generators) are kept in
  \`$XDG_CACHE_HOME/nodrop\`, or else in \`~/.cache/nodrop\`, and are shared by all clones.

| setting | values | default | meaning |
|---|---|---|---|
${rows.join('\n')}
| \`NODROP_QUERY_SCHEDULE_{CHANNEL}\` | text | | The query schedule of one channel; its name is in capitals, for example \`NODROP_QUERY_SCHEDULE_SIMULATOR\`. |

A schedule is a list of waits with an optional count: \`10s*3,20s*3,30s*7,1m\` waits 10 s three times, then 20 s three times, then 30 s seven times, and then 1 min repeatedly up to the expiry. Units are \`ms\`, \`s\`, \`m\` and \`h\`. A running payment keeps the schedule that it was started with.
`;
}

/** Describes the valid values of a setting in a few words. */
function valuesOf(name: string, property: z.core.JSONSchema.JSONSchema): string {
  if (property.enum !== undefined) return property.enum.map((value) => `\`${value}\``).join(', ');
  if (property.type === 'integer') return `${property.minimum} to ${property.maximum}`;
  if (property.format === 'uri') return 'URL';
  // The error message for an invalid value describes the valid values, so the description is taken from that message.
  const message = settings.safeParse({ [name]: '?' }).error?.issues[0]?.message ?? '';
  return /^must (?:be|have) (.+)$/.exec(message)?.[1] ?? 'text';
}

const END = '<!-- End of the generated part. -->';

/**
 * Replaces the generated part of a page, which is between two marks. @param source the file that the part is generated
 * from
 */
function withTable(page: string, source: string, table: string): string {
  const begin = `<!-- Generated from ${source} by \`npm run generate\`: edit there. -->`;
  const text = readFileSync(root + page, 'utf8');
  const [before, made, ...rest] = text.split(begin);
  const [, after, ...others] = (made ?? '').split(END);
  if (before === undefined || after === undefined || rest.length > 0 || others.length > 0)
    throw new Error(`${page} must have each of these marks once: ${begin} ${END}`);
  return `${before}${begin}\n\n${table}\n\n${END}${after}`;
}

function attentions(): string {
  const declared: Record<string, AttentionDeclaration> = { ...ATTENTIONS, ...UNSTORED_ATTENTIONS };
  const rows = Object.entries(declared).map(([name, { severity, raised, todo, clearedBy }]) => {
    const cleared = clearedBy.map((occasion) => OCCASIONS[occasion]).join('; or ');
    return `| \`${name}\` | \`${severity}\` | ${raised} | ${cleared} | ${todo} |`;
  });
  return [
    ...Object.entries(SEVERITIES).map(([name, meaning]) => `- \`${name}\`: ${meaning}.`),
    '',
    '| attention | severity | raised | cleared when | what to do |',
    '|---|---|---|---|---|',
    ...rows,
  ].join('\n');
}

function triggers(): string {
  const declared: Record<string, TriggerDeclaration> = TRIGGERS;
  const rows = Object.entries(declared).map(([name, { kind, does, example }]) => {
    const { subject, expiresInSeconds, asksForRefund, outcome } = example;
    const { payment, orderUpdate, attention, order, refund, callbacks } = outcome;
    const request = [
      `\`[sim:${subject}]\``,
      ...(expiresInSeconds === undefined ? [] : [`E = ${expiresInSeconds}`]),
      ...(asksForRefund === true ? ['R'] : []),
    ].join(', ');
    const states = [payment, orderUpdate, attention].filter((state) => state !== null);
    const ends = [
      `payment ${states.map((state) => `\`${state}\``).join(', ')}`,
      `order \`${order}\``,
      ...(refund === null ? [] : [`refund \`${refund}\``]),
      ...(callbacks === 0 ? ['no callback'] : []),
    ].join('; ');
    return `| \`${name}\` | ${kind} | ${does.en} | ${request} | ${ends} |`;
  });
  return [
    '| trigger | kind | what the wallet does | example | result |',
    '|---|---|---|---|---|',
    ...rows,
  ].join('\n');
}

function channels(): string {
  const rows = DECLARATIONS.map(({ name, title, testOnly, rateLimit, querySchedule }) => {
    const schedule =
      querySchedule === null
        ? "nodrop's own"
        : `${querySchedule.waitsMs.map(sayTime).join(', ')} (${querySchedule.source})`;
    const rate = `${rateLimit.perSecond} per second (${rateLimit.source})`;
    return `| \`${name}\` | ${title.en}, ${title.zh} | ${testOnly ? 'no' : 'yes'} | ${rate} | ${schedule} |`;
  });
  const methods = DECLARATIONS.flatMap(({ name, methods }) =>
    methods.map(({ name: method, action, currencies, expiry, subject, needs }) => {
      const longest = expiry.atMostMs === null ? 'no limit' : sayTime(expiry.atMostMs);
      const cut = `${subject.atMost} ${subject.countedIn}`;
      return `| \`${name}\` | \`${method}\` | ${action} | ${sayCurrencies(currencies)} | ${sayTime(expiry.atLeastMs)} to ${longest} | ${cut} | ${needs.map((field) => `\`payer.${field}\``).join(', ')} |`;
    }),
  );
  const settings = DECLARATIONS.flatMap(({ name, settings }) =>
    settings.map(
      ({ name: setting, description, isSecret, isRequired, pattern }) =>
        `| \`${name}\` | \`${setting}\` | ${isSecret ? 'yes' : 'no'} | ${isRequired ? 'yes' : 'no'} | ${description}${pattern === undefined ? '' : ` It ${pattern[1]}.`} |`,
    ),
  );
  return [
    ...['| channel | title | real money | rate limit (source) | query schedule (source) |'],
    ...['|---|---|---|---|---|', ...rows, ''],
    ...['| channel | method | the payer gets | currencies | expiry | subject | required fields |'],
    ...['|---|---|---|---|---|---|---|', ...methods, ''],
    ...[
      'Limits of a currency are in minor units of ISO 4217. The first method of a channel is its default.',
      '',
    ],
    ...['| channel | setting | secret | required | meaning |', '|---|---|---|---|---|', ...settings],
  ].join('\n');
}

const UNITS = [
  [86_400_000, 'd'],
  [3_600_000, 'h'],
  [60_000, 'min'],
  [1_000, 's'],
] as const;

const sayTime = (ms: number): string => {
  const [size, unit] = UNITS.find(([size]) => ms > 0 && ms % size === 0) ?? [1_000, 's'];
  return `${ms / size} ${unit}`;
};

function sayCurrencies(currencies: MethodDeclaration['currencies']): string {
  if (currencies === 'any') return 'any';
  return Object.entries(currencies)
    .map(([code, { atLeast, atMost, multipleOf }]) => {
      const limits = [
        ...(atLeast === undefined ? [] : [`from ${atLeast}`]),
        ...(atMost === undefined ? [] : [`to ${atMost}`]),
        ...(multipleOf === undefined ? [] : [`in steps of ${multipleOf}`]),
      ];
      return limits.length === 0 ? code : `${code} (${limits.join(' ')})`;
    })
    .join(', ');
}

function openApi(): string {
  // The document needs only the declarations of the endpoints. Their handlers are never called, so the endpoints are
  // created without a database and without Temporal.
  const endpoints = createEndpoints({ config: { api: { publicUrl: PUBLIC_URL } } } as unknown as Api);
  return JSON.stringify(openApiDocument(endpoints, PUBLIC_URL));
}

/** The schemas that the JavaScript client uses. The types of its query parameters are generated separately. */
const CLIENT_TYPES = [
  ...['NewOrder', 'OrderChange', 'Order', 'OrderPage', 'NewPayment', 'Payment', 'PaymentPage', 'NewSwitch'],
  ...['PaymentForPayer', 'SwitchedPayment', 'TimelinePage', 'NewRefund', 'Refund', 'RefundPage'],
  ...['Event', 'EventPage', 'PaymentEventData', 'RefundEventData', 'Delivery', 'DeliveryPage'],
  ...['NewRedelivery', 'Redelivery', 'Callback', 'CallbackPage', 'Problem'],
];

type Schema = z.core.JSONSchema.JSONSchema;

/** The parts of the OpenAPI document that the generated types use. */
interface Document {
  readonly components: { readonly schemas: Readonly<Record<string, Schema>> };
  readonly paths: Readonly<Record<string, Readonly<Record<string, Operation>>>>;
}

interface Operation {
  readonly operationId: string;
  readonly parameters?: readonly {
    readonly name: string;
    readonly in: string;
    readonly required?: boolean;
    readonly schema: Schema;
  }[];
  readonly requestBody?: { readonly content?: Readonly<Record<string, { readonly schema: Schema }>> };
}

/** Generates TypeScript types for the schemas of the client, and for all schemas that they reference. */
async function clientTypes(text: string): Promise<string> {
  const { components, paths }: Document = JSON.parse(
    text.replaceAll('#/components/schemas/', '#/definitions/'),
    (_name, value) => withLiterals(value),
  );
  const operations = Object.values(paths).flatMap((methods) => Object.values(methods));
  const queries = Object.fromEntries(
    operations.flatMap(({ operationId, parameters = [] }): [string, Schema][] => {
      const inQuery = parameters.filter((parameter) => parameter.in === 'query' && !parameter.required);
      if (!operationId.startsWith('list') && operationId !== 'getTimeline') return [];
      const properties = Object.fromEntries(inQuery.map(({ name, schema }) => [name, schema]));
      return [[`${capitalized(operationId)}Query`, { type: 'object', properties }]];
    }),
  );
  const resolution = operations.find(({ operationId }) => operationId === 'resolvePayment')?.requestBody;
  const inline = { ...queries, NewResolution: resolution?.content?.['application/json']?.schema ?? {} };
  const names = [...CLIENT_TYPES, ...Object.keys(inline)];
  const root = {
    title: 'Schemas',
    type: 'object' as const,
    properties: Object.fromEntries(names.map((name) => [name, { $ref: `#/definitions/${name}` }])),
    definitions: { ...components.schemas, ...inline },
  };
  return await compile(root as Parameters<typeof compile>[0], 'Schemas', {
    additionalProperties: false,
    bannerComment: "// Generated from the API's schemas by `npm run generate`: edit src/api/schemas.",
    format: false,
  });
}

const capitalized = (name: string) => name.charAt(0).toUpperCase() + name.slice(1);

/**
 * If a field allows known values or any string, removes "any string". Otherwise an editor could not complete the known
 * values, and TypeScript could not narrow types or find misspelled values. A query parameter with the values 'true' and
 * 'false' becomes a boolean.
 */
function withLiterals(value: Schema): Schema {
  if (Array.isArray(value?.anyOf)) {
    const isKnown = ({ $ref }: Schema) => $ref?.startsWith('#/definitions/Known') === true;
    const isText = (one: Schema) => one.type === 'string' && Object.keys(one).length === 1;
    if (value.anyOf.some(isKnown)) return { ...value, anyOf: value.anyOf.filter((one) => !isText(one)) };
  }
  if (JSON.stringify(value?.enum) === '["true","false"]')
    return { type: 'boolean', description: value.description ?? '' };
  return value;
}

/** Sample files with the body of one event of each type. */
const samples = (): Record<string, string> =>
  Object.fromEntries(
    [...sampleEvents()].map(([type, body]) => [`docs/events/${type}.json`, JSON.stringify(body)]),
  );

/** Formats a generated text so that `npm run lint` accepts it. */
function format(path: string, text: string): string {
  const { status, stdout, stderr } = spawnSync(
    'node_modules/.bin/biome',
    ['format', `--stdin-file-path=${path}`],
    { cwd: root, input: text, encoding: 'utf8' },
  );
  if (status !== 0) throw new Error(`${path} cannot be formatted: ${stderr}`);
  return stdout;
}

const openApiText = openApi();
const documents = {
  'docs/configuration.md': configuration(),
  'docs/channels/README.md': withTable('docs/channels/README.md', 'src/channels/registry.ts', channels()),
  'docs/openapi.json': openApiText,
  'docs/operations.md': withTable('docs/operations.md', 'src/domain/attention.ts', attentions()),
  'docs/sandbox.md': withTable('docs/sandbox.md', 'src/simulator/triggers.ts', triggers()),
  'clients/js/api.d.ts': await clientTypes(openApiText),
  ...samples(),
};
const stale = Object.entries(documents)
  .map(([path, text]) => [path, format(path, text)] as const)
  .filter(([path, text]) => !existsSync(root + path) || readFileSync(root + path, 'utf8') !== text);
if (stale.length === 0) console.log('The generated documents are up to date.');
else if (process.argv.includes('--check')) {
  const names = stale.map(([path]) => path).join(' and ');
  console.error(`${names} ${stale.length === 1 ? 'is' : 'are'} stale: run npm run generate and commit.`);
  process.exitCode = 1;
} else {
  for (const [path, text] of stale) {
    mkdirSync(dirname(root + path), { recursive: true });
    writeFileSync(root + path, text);
    console.log(`${path} is written.`);
  }
}
