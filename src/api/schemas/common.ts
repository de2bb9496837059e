import { isCurrency, MAX_AMOUNT } from '../../domain/money.ts';
import { ORDER_ID_PATTERN, ORDER_ID_RULE, orderIdFault } from '../../domain/order-id.ts';
import { EXPIRY_AT_LEAST_S } from '../../domain/payment.ts';
import { REFUSALS, type RefusalCode } from '../../domain/refusal.ts';
import { isStorable, readableFault } from '../../domain/text.ts';
import { z } from '../http/zod.ts';
import { openSet } from './sets.ts';

/**
 * Building blocks of the schemas of requests and answers. Request schemas are strict, to reject misspelt field names.
 */

export const text = (max: number, min = 1) =>
  z
    .string()
    // For an empty text, the API reports only this error, and not one error for each rule.
    .min(min, { abort: true })
    .max(max)
    .refine(isStorable, 'must not contain NUL or half a surrogate pair');

/**
 * Converts a rule of the domain to a check that a schema can use.
 * @param fault returns the end of an error message, or undefined if the value obeys the rule
 */
const refuses =
  (fault: (value: string) => string | undefined) => (value: string, context: z.RefinementCtx<string>) => {
    const message = fault(value);
    if (message !== undefined) context.addIssue({ code: 'custom', message });
  };

/** The schema of a text that people read. The text must have a visible character and no bidirectional overrides. */
export const readableText = (max: number) =>
  text(max).superRefine(refuses(readableFault)).openapi({ pattern: '^[^\\u202a-\\u202e\\u2066-\\u2069]*$' });

/** Describes the rule of `readableText` in API descriptions. */
export const READABLE_RULE =
  'Must have at least one visible character, and no bidirectional overrides, embeddings or isolates (U+202A to U+202E, ' +
  'U+2066 to U+2069); the marks LRM and RLM are allowed.';

const AMOUNT_RULE = `must be a whole number of minor units from 1 to ${MAX_AMOUNT}, in plain digits`;

/** The OpenAPI format of an amount. Without this format, client generators use a 32-bit integer. */
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
  // Because of `abort`, a value that breaks the first rule is not checked against the second rule. So the API reports
  // one error for one mistake.
  .regex(/^[A-Z]{3}$/, { error: ({ input }) => currencyFault(String(input)), abort: true })
  .refine(isCurrency, { error: ({ input }) => currencyFault(String(input)) })
  .openapi({ description: 'An ISO 4217 code.', example: 'CNY' });

export const orderId = z
  .string()
  .superRefine(refuses(orderIdFault))
  .openapi({
    description: `The merchant's own id of the order. ${ORDER_ID_RULE}. Percent-encode it in a URL.`,
    pattern: ORDER_ID_PATTERN,
    minLength: 1,
    maxLength: 64,
    example: 'order-1001',
  });

export const metadata = z
  .unknown()
  // Without this check, `z.record` would drop this property name without an error.
  .refine((value) => !Object.hasOwn(Object(value), '__proto__'), {
    path: ['__proto__'],
    error: 'is not allowed as a name',
  })
  .pipe(z.record(z.string(), z.unknown()))
  // The number of pairs is checked first, because a request may have thousands of pairs.
  .refine((pairs) => Object.keys(pairs).length <= 20, 'must have at most 20 pairs')
  .pipe(z.record(text(40), text(500, 0)))
  .openapi({
    type: 'object',
    additionalProperties: { type: 'string', minLength: 0, maxLength: 500 },
    description: 'At most 20 pairs of texts, names up to 40 and values up to 500 characters. Default: none.',
    example: { cart: 'c-77' },
  });

/**
 * Makes a request field optional, with a fallback value. Zod's `default()` is not used, because it puts the default
 * into the OpenAPI document, and client generators treat a property with a default as required.
 */
export const orElse = <T extends z.ZodType>(schema: T, fallback: z.output<T>) =>
  schema.optional().transform((value) => value ?? fallback);

/** `requireExpiry` checks the minimum, because the minimum depends on the mode (test or live). */
export const expiresInSeconds = (max: number) =>
  z
    .int({ error: 'must be a whole number of seconds' })
    .max(max, `must be at most ${max}`)
    .openapi({ minimum: EXPIRY_AT_LEAST_S.test });
export const EXPIRY_RULE = `At least ${EXPIRY_AT_LEAST_S.live}, in test mode ${EXPIRY_AT_LEAST_S.test}.`;

/** An idempotency key must be printable ASCII without spaces, because every proxy forwards such text unchanged. */
export const idempotencyKey = z
  .string()
  .regex(/^[\x21-\x7e]{1,255}$/, 'must be 1 to 255 printable ASCII characters without spaces');

/** A whole number in a query string, where all values are text. */
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
  description: 'How many seconds the answer may wait for a change. Default: it does not wait.',
  example: 30,
});

export const limit = (max: number, fallback: number) =>
  orElse(digits(1, max), fallback).openapi({
    type: 'integer',
    minimum: 1,
    maximum: max,
    default: fallback as never,
    description: 'Maximum number of items.',
  });

/** Maximum length of a cursor in characters. A cursor with the longest possible order id is not longer. */
const CURSOR_AT_MOST = 400;

export const cursor = z
  .string()
  .max(CURSOR_AT_MOST)
  .optional()
  .openapi({ description: 'The `nextCursor` of the previous page. Opaque.' });

/**
 * Makes a schema nullable. Zod's `nullable()` would make a named schema nullable everywhere in the OpenAPI document.
 */
export const orNull = <T extends z.ZodType>(schema: T) => z.union([schema, z.null()]);

export const time = z.iso.datetime().openapi({ example: '2026-11-21T10:00:00.000Z' });

const STABLE = 'Stable. New values may be added: accept them.';

export const problem = z
  .object({
    type: z.url().openapi({ description: 'A page that explains the code.' }),
    title: z.string(),
    status: z.int(),
    detail: z.string().openapi({ description: 'What is wrong with this request, in words.' }),
    code: openSet('ProblemCode', Object.keys(REFUSALS), { description: STABLE }).open,
    instance: z.string().optional().openapi({
      description: 'The path of the request. Absent if the request was refused before its path was read.',
    }),
    requestId: z.string().openapi({ description: 'Also in the header x-request-id and in every log line.' }),
    errors: z
      .array(z.object({ path: z.string(), message: z.string() }))
      .optional()
      .openapi({
        description:
          'For `invalid_request`: which fields are wrong, and why. For `unknown_channel`: which channels exist. For `order_exists`, `payer_differs` and `idempotency_key_reused`: which fields differ.',
      }),
  })
  .openapi('Problem', { description: 'RFC 9457 problem details.' });

/**
 * The schema of a route's problem document, with the codes that this route can answer. The schema repeats all fields of
 * `Problem` instead of using `allOf`. With `allOf`, some client generators would give each route the codes of all
 * routes.
 */
export function routeProblem(operationId: string, codes: readonly RefusalCode[]) {
  const name = `${operationId.charAt(0).toUpperCase()}${operationId.slice(1)}Problem`;
  const code = openSet(`${name}Code`, codes, { description: STABLE }).open;
  return z
    .object({ ...problem.shape, code })
    .openapi(name, { description: `A refusal of \`${operationId}\`.` });
}
