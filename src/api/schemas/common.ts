import { isCurrency, MAX_AMOUNT } from '../../domain/money.ts';
import { ORDER_ID_PATTERN, ORDER_ID_RULE, orderIdFault } from '../../domain/order-id.ts';
import { EXPIRY_AT_LEAST_S } from '../../domain/payment.ts';
import { REFUSALS, type RefusalCode } from '../../domain/refusal.ts';
import { isStorable, readableFault } from '../../domain/text.ts';
import { z } from '../http/zod.ts';
import { openSet } from './sets.ts';

/** The building blocks of requests and answers. Requests are strict, so that a misspelt name is seen. */

export const text = (max: number, min = 1) =>
  z
    .string()
    // Of an empty text nothing else has to be said.
    .min(min, { abort: true })
    .max(max)
    .refine(isStorable, 'must not contain NUL or half a surrogate pair');

/** A rule of the domain as a check of a schema. @param fault gives the end of a sentence, or undefined. */
const refuses =
  (fault: (value: string) => string | undefined) => (value: string, context: z.RefinementCtx<string>) => {
    const message = fault(value);
    if (message !== undefined) context.addIssue({ code: 'custom', message });
  };

/** A text that people read. */
export const readableText = (max: number) =>
  text(max).superRefine(refuses(readableFault)).openapi({ pattern: '^[^\\u202a-\\u202e\\u2066-\\u2069]*$' });

/** For the description of such a text. */
export const READABLE_RULE =
  'It has something to be seen, and no bidirectional overrides, embeddings or isolates (U+202A to U+202E, U+2066 to ' +
  'U+2069); the marks LRM and RLM are taken.';

const AMOUNT_RULE = `must be a whole number of minor units from 1 to ${MAX_AMOUNT}, in plain digits`;

/** Of an amount, for generators, which else make 32 bits of an integer. */
export const INT64 = { format: 'int64' } as const;

export const amount = z
  .int({ error: AMOUNT_RULE })
  .min(1, AMOUNT_RULE)
  .max(MAX_AMOUNT, AMOUNT_RULE)
  .openapi({ ...INT64, description: 'Minor units: 1050 is CNY 10.50 or JPY 1,050.', example: 1050 });

const currencyFault = (given: string): string => {
  const capitals = given.toUpperCase();
  return isCurrency(capitals)
    ? `must be in capitals: ${capitals}`
    : 'must be a currency of ISO 4217, such as CNY';
};

export const currency = z
  .string()
  // One error for one mistake: the second rule is not looked at when the first is broken.
  .regex(/^[A-Z]{3}$/, { error: ({ input }) => currencyFault(String(input)), abort: true })
  .refine(isCurrency, { error: ({ input }) => currencyFault(String(input)) })
  .openapi({ description: 'An ISO 4217 code.', example: 'CNY' });

export const orderId = z
  .string()
  .superRefine(refuses(orderIdFault))
  .openapi({
    description: `The merchant's own id of the order. ${ORDER_ID_RULE}. In an address it is percent-encoded.`,
    pattern: ORDER_ID_PATTERN,
    minLength: 1,
    maxLength: 64,
    example: 'order-1001',
  });

export const metadata = z
  .unknown()
  // A record leaves this name out in silence.
  .refine((value) => !Object.hasOwn(Object(value), '__proto__'), {
    path: ['__proto__'],
    error: 'cannot be a name',
  })
  .pipe(z.record(z.string(), z.unknown()))
  // Before the pairs are looked at: there may be many thousands.
  .refine((pairs) => Object.keys(pairs).length <= 20, 'must have at most 20 pairs')
  .pipe(z.record(text(40), text(500, 0)))
  .openapi({
    type: 'object',
    additionalProperties: { type: 'string', minLength: 0, maxLength: 500 },
    description: 'At most 20 pairs of texts, names up to 40 and values up to 500 characters. Default: none.',
    example: { cart: 'c-77' },
  });

/**
 * What may be left out of a request. Zod's own `default()` would be in the document, and generators make a property that
 * must be given of one with a default.
 */
export const orElse = <T extends z.ZodType>(schema: T, fallback: z.output<T>) =>
  schema.optional().transform((value) => value ?? fallback);

/** The least is the mode's: `requireExpiry` has it. */
export const expiresInSeconds = (max: number) =>
  z
    .int({ error: 'must be a whole number of seconds' })
    .max(max, `must be at most ${max}`)
    .openapi({ minimum: EXPIRY_AT_LEAST_S.test });
export const EXPIRY_RULE = `At least ${EXPIRY_AT_LEAST_S.live}, in test mode ${EXPIRY_AT_LEAST_S.test}.`;

/** Printable ASCII: what survives every proxy as it was sent. */
export const idempotencyKey = z
  .string()
  .regex(/^[\x21-\x7e]{1,255}$/, 'must be 1 to 255 printable characters of ASCII, without spaces');

/** A whole number in a query string, where everything is text. */
const digits = (min: number, max: number) =>
  z
    .string()
    .regex(/^\d{1,4}$/, `must be a whole number from ${min} to ${max}`)
    .transform(Number)
    .refine((value) => value >= min && value <= max, `must be a whole number from ${min} to ${max}`);

export const wait = digits(0, 60).optional().openapi({
  type: 'integer',
  minimum: 0,
  maximum: 60,
  description: 'Seconds to hold the answer back until there is news.',
  example: 30,
});

export const limit = (max: number, fallback: number) =>
  orElse(digits(1, max), fallback).openapi({
    type: 'integer',
    minimum: 1,
    maximum: max,
    default: fallback as never,
    description: 'Rows at most.',
  });

/** Of the longest id of an order, in base64url. */
const CURSOR_AT_MOST = 400;

export const cursor = z
  .string()
  .max(CURSOR_AT_MOST)
  .optional()
  .openapi({ description: 'The `nextCursor` of the page before. Opaque.' });

/** Instead of `nullable()`, which in the document would make a named schema nullable wherever it is used. */
export const orNull = <T extends z.ZodType>(schema: T) => z.union([schema, z.null()]);

export const time = z.iso.datetime().openapi({ example: '2026-11-21T10:00:00.000Z' });

const STABLE = 'Stable. Accept new ones.';

export const problem = z
  .object({
    type: z.url().openapi({ description: 'A page that explains the code.' }),
    title: z.string(),
    status: z.int(),
    detail: z.string().openapi({ description: 'What is wrong with this request.' }),
    code: openSet('ProblemCode', Object.keys(REFUSALS), { description: STABLE }).open,
    instance: z.string().optional().openapi({
      description: 'The path that was asked for; absent when the request could not be read so far.',
    }),
    requestId: z.string().openapi({ description: 'Also in the header x-request-id and in every log line.' }),
    errors: z
      .array(z.object({ path: z.string(), message: z.string() }))
      .optional()
      .openapi({
        description:
          'For invalid_request: what is wrong where. For unknown_channel: which channels there are. For order_exists, payer_differs and idempotency_key_reused: which fields differ.',
      }),
  })
  .openapi('Problem', { description: 'RFC 9457 problem details.' });

/**
 * The problem document of a route, with the codes it refuses with. All of its fields are its own: generators that merge
 * `allOf` take the codes of every route.
 */
export function routeProblem(operationId: string, codes: readonly RefusalCode[]) {
  const name = `${operationId.charAt(0).toUpperCase()}${operationId.slice(1)}Problem`;
  const code = openSet(`${name}Code`, codes, { description: STABLE }).open;
  return z
    .object({ ...problem.shape, code })
    .openapi(name, { description: `A refusal of \`${operationId}\`.` });
}
