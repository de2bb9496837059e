// Creates the pages of the API reference from docs/openapi.json: one page for each tag, one for the events, one for the
// types, one for the problem codes.

interface Schema {
  readonly $ref?: string;
  readonly type?: string | readonly string[];
  readonly enum?: readonly string[];
  readonly anyOf?: readonly Schema[];
  readonly allOf?: readonly Schema[];
  readonly properties?: Readonly<Record<string, Schema>>;
  readonly required?: readonly string[];
  readonly items?: Schema;
  readonly additionalProperties?: boolean | Schema;
  readonly description?: string;
  readonly format?: string;
  readonly minimum?: number;
  readonly maximum?: number;
  readonly minLength?: number;
  readonly maxLength?: number;
  readonly default?: unknown;
}

interface Media {
  readonly schema?: Schema;
  readonly examples?: Readonly<Record<string, { readonly summary?: string; readonly value: unknown }>>;
}

interface Answer {
  readonly description: string;
  readonly content?: Readonly<Record<string, Media>>;
}

interface Operation {
  readonly operationId: string;
  readonly tags: readonly string[];
  readonly summary: string;
  readonly description?: string;
  readonly security?: readonly Readonly<Record<string, unknown>>[];
  readonly parameters?: readonly {
    readonly name: string;
    readonly in: string;
    readonly required?: boolean;
    readonly description?: string;
    readonly schema: Schema;
  }[];
  readonly requestBody?: { readonly content: Readonly<Record<string, Media>> };
  readonly responses: Readonly<Record<string, Answer>>;
}

export interface OpenApi {
  readonly info: { readonly description: string };
  readonly tags: readonly { readonly name: string; readonly description: string }[];
  readonly components: {
    readonly securitySchemes: Readonly<Record<string, { readonly description: string }>>;
    readonly schemas: Readonly<Record<string, Schema>>;
  };
  readonly paths: Readonly<Record<string, Readonly<Record<string, Operation>>>>;
  readonly webhooks: Readonly<Record<string, Readonly<Record<string, Operation>>>>;
}

export interface ReferencePage {
  /** File name in the folder of the reference, for example `payments.md`. */
  readonly file: string;
  readonly title: string;
  readonly markdown: string;
}

const slugOf = (name: string) => name.toLowerCase().replaceAll(/[^a-z0-9]+/g, '-');
const nameOf = ({ $ref = '' }: Schema) => $ref.slice($ref.lastIndexOf('/') + 1);
/**
 * True for the schema of one call's problems. It differs from `Problem` only in its codes. A table of the page lists
 * these codes.
 */
const isProblem = (name: string) => /Problem(Code)?$/.test(name);
const isKnownSet = (name: string) => name.startsWith('Known');
const cell = (text: string) => text.replaceAll('|', '\\|').replaceAll('\n', ' ');
const table = (head: readonly string[], rows: readonly (readonly string[])[]) =>
  [head, head.map(() => '---'), ...rows].map((cells) => `| ${cells.map(cell).join(' | ')} |`).join('\n');
const json = (value: unknown) => `\`\`\`json\n${JSON.stringify(value, null, 2)}\n\`\`\``;

class Reference {
  readonly #openApi: OpenApi;

  constructor(openApi: OpenApi) {
    this.#openApi = openApi;
  }

  pages(): readonly ReferencePage[] {
    const byTag = this.#openApi.tags.map(({ name, description }) => {
      const operations = Object.entries(this.#openApi.paths).flatMap(([path, methods]) =>
        Object.entries(methods)
          .filter(([, { tags }]) => tags.includes(name))
          .map(([method, operation]) => this.#operation(method, path, operation)),
      );
      const markdown = [`# ${name}`, description, ...operations].join('\n\n');
      return { file: `${slugOf(name)}.md`, title: name, markdown };
    });
    return [
      { file: 'index.md', title: 'Overview', markdown: this.#overview() },
      ...byTag,
      { file: 'webhooks.md', title: 'Events to your shop', markdown: this.#webhooks() },
      { file: 'types.md', title: 'Types', markdown: this.#types() },
      { file: 'problem-codes.md', title: 'Problem codes', markdown: this.#problemCodes() },
    ];
  }

  #overview(): string {
    const rows = Object.entries(this.#openApi.paths).flatMap(([path, methods]) =>
      Object.entries(methods).map(([method, { operationId, summary, tags }]) => [
        `\`${method.toUpperCase()} ${path}\``,
        `[${summary}](/api/${slugOf(tags[0] ?? '')}.md#${operationId})`,
      ]),
    );
    const schemes = Object.entries(this.#openApi.components.securitySchemes);
    return [
      '# API reference',
      this.#openApi.info.description,
      'This is version 1. [The OpenAPI document](/openapi.json) has the same content for programs; [a client for your language](/generated-clients.md) can be generated from it. Errors are [problem details](/api/types.md#Problem) with one of [these codes](/api/problem-codes.md).',
      '## Authorisation',
      'A call has one of these in the header `Authorization: Bearer ...`:',
      schemes.map(([name, { description }]) => `- **${words(name)}**: ${description}`).join('\n'),
      '## Calls',
      table(['call', 'what it does'], rows),
    ].join('\n\n');
  }

  #operation(method: string, path: string, operation: Operation): string {
    const { operationId, summary, description, security = [], parameters = [] } = operation;
    const keys = security.flatMap((one) => Object.keys(one)).map(words);
    const media = Object.entries(operation.requestBody?.content ?? {})[0];
    return [
      `## ${summary} {#${operationId}}`,
      `\`\`\`http\n${method.toUpperCase()} ${path}\n\`\`\``,
      keys.length === 0 ? 'Needs no key.' : `Needs ${keys.map((key) => `a **${key}**`).join(' or ')}.`,
      description ?? '',
      ...(parameters.length === 0 ? [] : ['**Parameters**', this.#parameters(operation)]),
      ...(media === undefined ? [] : ['**Body**', ...this.#body(media)]),
      '**Answers**',
      this.#answers(operation),
    ]
      .filter((part) => part !== '')
      .join('\n\n');
  }

  #parameters({ parameters = [] }: Operation): string {
    const rows = parameters.map(({ name, in: place, required, description, schema }) => [
      `\`${name}\`${required ? ' *' : ''}`,
      place,
      this.#type(schema),
      described({ ...schema, description: description ?? schema.description ?? '' }),
    ]);
    return `${table(['name', 'in', 'type', 'meaning'], rows)}\n\n\\* required`;
  }

  #body([type, { schema = {}, examples = {} }]: readonly [string, Media]): string[] {
    const shown = schema.$ref === undefined ? undefined : this.#openApi.components.schemas[nameOf(schema)];
    return [
      `\`${type}\`: ${this.#type(schema)}`,
      ...(shown?.properties === undefined ? [] : [this.#fields(shown)]),
      ...Object.values(examples).flatMap(({ summary, value }) => [
        summary === undefined ? 'Example:' : `${summary}:`,
        json(value),
      ]),
    ];
  }

  #answers({ responses }: Operation): string {
    const rows = Object.entries(responses).map(([status, { description, content = {} }]) => {
      const [type, media] = Object.entries(content)[0] ?? [];
      if (type === 'application/problem+json')
        return [status, '[problem](/api/types.md#Problem)', description];
      return [status, media?.schema === undefined ? '' : this.#type(media.schema), description];
    });
    return table(['status', 'body', 'meaning'], rows);
  }

  #webhooks(): string {
    const events = Object.entries(this.#openApi.webhooks);
    const [, first] = events[0] ?? [];
    const shared = Object.values(first ?? {})[0];
    const rows = events.map(([type, methods]) => {
      const { summary } = Object.values(methods)[0] ?? { summary: '' };
      return [`\`${type}\``, summary];
    });
    return [
      '# Events to your shop',
      'nodrop delivers these events to the URL of your order service. [The quickstarts](/quickstarts/index.md) have receivers, and [the order service](/order-service.md) describes every rule.',
      table(['type', 'meaning'], rows),
      ...(shared === undefined
        ? []
        : [
            '## Request',
            shared.description ?? '',
            this.#parameters(shared),
            `The body is an [Event](/api/types.md#Event). [Sample events](/events/index.md) has one of each type.`,
            '## Answers',
            'To `payment.succeeded`:',
            this.#answers(shared),
          ]),
    ].join('\n\n');
  }

  #types(): string {
    const shown = Object.entries(this.#openApi.components.schemas).filter(
      ([name]) => (name === 'Problem' || !isProblem(name)) && !isKnownSet(name),
    );
    const sections = shown
      .sort(([a], [b]) => a.localeCompare(b, 'en'))
      .map(([name, schema]) =>
        [
          `## ${name} {#${name}}`,
          schema.description ?? '',
          schema.properties === undefined && schema.allOf === undefined
            ? this.#type(schema)
            : this.#fields(schema),
        ]
          .filter((part) => part !== '')
          .join('\n\n'),
      );
    return [
      '# Types',
      'The types of request and response bodies. An _open_ set may get new values within v1: accept unknown values.',
      ...sections,
    ].join('\n\n');
  }

  #problemCodes(): string {
    const codes = new Map<string, { title: string; status: string; by: Set<string> }>();
    const methods = Object.values(this.#openApi.paths).flatMap((path) => Object.values(path));
    for (const { operationId, tags, responses } of methods) {
      for (const [status, { content }] of Object.entries(responses)) {
        for (const { value } of Object.values(content?.['application/problem+json']?.examples ?? {})) {
          const { code, title } = value as { code: string; title: string };
          const known = codes.get(code) ?? { title, status, by: new Set() };
          codes.set(code, known);
          known.by.add(`[${operationId}](/api/${slugOf(tags[0] ?? '')}.md#${operationId})`);
        }
      }
    }
    const rows = [...codes].sort(([a], [b]) => a.localeCompare(b, 'en'));
    return [
      '# Problem codes',
      'An error is `application/problem+json` ([Problem](/api/types.md#Problem)). Programs should use its `code`; `title` and `detail` are for people.',
      table(
        ['code', 'status', 'meaning', 'by'],
        rows.map(([code, { title, status, by }]) => [
          `\`${code}\``,
          status,
          title,
          by.size === methods.length ? 'every call' : by.size > 12 ? 'most calls' : [...by].join(', '),
        ]),
      ),
    ].join('\n\n');
  }

  /** A table of the fields. Fields of nested objects are named like `order.id`. */
  #fields(schema: Schema): string {
    return table(
      ['field', 'type', 'meaning'],
      this.#rows(schema, '').map(([name, type, meaning]) => [name, type, meaning]),
    );
  }

  #rows(schema: Schema, prefix: string): [string, string, string][] {
    if (schema.allOf !== undefined) {
      return schema.allOf.flatMap((part) =>
        this.#rows(
          part.$ref === undefined ? part : (this.#openApi.components.schemas[nameOf(part)] ?? {}),
          prefix,
        ),
      );
    }
    return Object.entries(schema.properties ?? {}).flatMap(([name, field]) => {
      const within = field.properties !== undefined ? field : (field.items ?? {});
      const path = `${prefix}${name}`;
      return [
        [
          `\`${path}\`${schema.required?.includes(name) && schema.additionalProperties === false ? ' *' : ''}`,
          this.#type(field),
          described(field),
        ] as [string, string, string],
        ...(within.properties === undefined
          ? []
          : this.#rows(within, `${path}${field.items === undefined ? '' : '[]'}.`)),
      ];
    });
  }

  #type(schema: Schema): string {
    if (schema.$ref !== undefined) {
      const name = nameOf(schema);
      if (isProblem(name)) return '[problem code](/api/problem-codes.md)';
      if (isKnownSet(name)) {
        const { enum: values = [] } = this.#openApi.components.schemas[name] ?? {};
        return values.map((value) => `\`${value}\``).join(', ');
      }
      return `[${name}](/api/types.md#${name})`;
    }
    if (schema.anyOf !== undefined) {
      const isOpen = schema.anyOf.some(({ $ref }) => $ref !== undefined && isKnownSet(nameOf({ $ref })));
      // A field with known values that may get further values also allows any string. The reference shows this as
      // "(open)".
      const parts = schema.anyOf.filter(({ type }) => !(isOpen && type === 'string'));
      const types = [...new Set(parts.map((part) => this.#type(part)))].join(' or ');
      return isOpen ? `${types} (open)` : types;
    }
    if (schema.enum !== undefined) return schema.enum.map((value) => `\`${value}\``).join(', ');
    const types = [schema.type ?? []].flat().map((type) => {
      if (type === 'array') return `array of ${this.#type(schema.items ?? {})}`;
      if (type === 'string' && schema.format === 'date-time') return 'time';
      return type;
    });
    return types.join(' or ');
  }
}

const words = (name: string) => ({ key: 'key', clientToken: 'client token' })[name] ?? name;

/** The description of a field, followed by its bounds and its default. */
function described(schema: Schema): string {
  const { description = '', minimum, maximum, minLength, maxLength, default: standard } = schema;
  const bounds = [
    minimum !== undefined && maximum !== undefined && maximum < Number.MAX_SAFE_INTEGER
      ? `From ${minimum} to ${maximum}.`
      : '',
    minLength !== undefined && maxLength !== undefined ? `${minLength} to ${maxLength} characters.` : '',
    minLength === undefined && maxLength !== undefined ? `At most ${maxLength} characters.` : '',
    standard === undefined ? '' : `Default: \`${JSON.stringify(standard)}\`.`,
  ];
  return [description, ...bounds].filter((part) => part !== '').join(' ');
}

/** @returns the pages of the reference, in their order in the sidebar. */
export const referencePages = (openApi: OpenApi): readonly ReferencePage[] => new Reference(openApi).pages();
