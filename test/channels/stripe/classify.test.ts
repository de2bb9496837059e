import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { classify, type Operation, type Reply, refusalIn } from '../../../src/channels/stripe/classify.ts';

/** Tests that only the listed answers of Stripe are definite. */

const OPERATIONS = ['create', 'refund', 'other'] as const satisfies readonly Operation[];

const replyOf = (status: number, body: unknown, headers: Record<string, string> = {}): Reply => ({
  status,
  headers: new Headers(headers),
  text: typeof body === 'string' ? body : JSON.stringify(body),
});
const refusal = (fields: Record<string, string>, type = 'invalid_request_error') => ({
  error: { type, message: 'No.', ...fields },
});

/** The complete list. */
const DEFINITE: Readonly<Record<Operation, readonly Record<string, string>[]>> = {
  create: [
    'amount_too_large',
    'amount_too_small',
    'invalid_charge_amount',
    'parameter_invalid_empty',
    'parameter_invalid_integer',
    'parameter_invalid_string_blank',
    'parameter_invalid_string_empty',
    'url_invalid',
  ].map((code) => ({ code })),
  refund: [
    { code: 'amount_too_large' },
    { code: 'charge_already_refunded' },
    { code: 'charge_not_refundable' },
    { param: 'amount' },
  ],
  other: [],
};

describe('refusals', () => {
  test('a refusal is definite if it is listed for the operation', () => {
    for (const operation of OPERATIONS) {
      for (const fields of DEFINITE[operation]) {
        expect(classify(replyOf(400, refusal(fields)), operation).kind, JSON.stringify(fields)).toBe(
          'rejected',
        );
      }
    }
  });

  const codes = fc.oneof(
    fc.constantFrom(
      ...OPERATIONS.flatMap((operation) => DEFINITE[operation]).map(({ code = '' }) => code),
      'card_declined',
      'resource_missing',
      'idempotency_key_in_use',
      'parameter_unknown',
      'insufficient_funds',
      'refund_disputed_payment',
      'lock_timeout',
      'api_key_expired',
    ),
    fc.string(),
  );
  const types = fc.oneof(
    fc.constantFrom('invalid_request_error', 'api_error', 'card_error', 'idempotency_error'),
    fc.string(),
  );
  const bodies = fc.oneof(
    fc.record(
      {
        error: fc.record(
          {
            type: types,
            code: codes,
            param: fc.oneof(fc.constantFrom('amount', 'expires_at'), fc.string()),
            message: fc.string(),
          },
          { requiredKeys: [] },
        ),
      },
      { requiredKeys: [] },
    ),
    fc.json().map((text): unknown => JSON.parse(text)),
    fc.string(),
  );

  test('only a refusal that is listed for the operation is definite, whatever its status and body', () => {
    fc.assert(
      fc.property(
        fc.constantFrom(...OPERATIONS),
        fc.oneof(
          fc.constantFrom(200, 302, 400, 401, 402, 403, 404, 409, 429, 500, 503),
          fc.integer({ min: 300, max: 599 }),
        ),
        bodies,
        (operation, status, body) => {
          const { kind } = classify(replyOf(status, body), operation);
          if (kind !== 'rejected' && kind !== 'not_now') return;
          const { error } = body as { error: { type: string; code?: string; param?: string } };
          expect(status).toBe(400);
          expect(error.type).toBe('invalid_request_error');
          if (kind === 'not_now') expect(operation).toBe('refund');
          else {
            const isListed = DEFINITE[operation].some(({ code, param }) =>
              code === undefined ? (error.code ?? '') === '' && error.param === param : error.code === code,
            );
            expect(isListed).toBe(true);
          }
        },
      ),
      { numRuns: 5_000 },
    );
  });
});

describe('other answers', () => {
  test.each([
    [401, refusal({}), 'misconfigured'],
    [403, refusal({}), 'misconfigured'],
    [403, '<html>', 'misconfigured'],
    [400, refusal({ code: 'api_key_expired' }), 'misconfigured'],
    [400, refusal({ message: 'Invalid Stripe API version: 2026-10-28.endive' }), 'misconfigured'],
    [400, refusal({}, 'idempotency_error'), 'unreachable'],
    [409, refusal({ code: 'idempotency_key_in_use' }), 'unreachable'],
    [402, refusal({ code: 'card_declined' }, 'card_error'), 'unreachable'],
    [404, refusal({ code: 'resource_missing' }), 'unreachable'],
    [429, refusal({ code: 'rate_limit' }), 'rate_limited'],
    [429, '', 'rate_limited'],
    [500, 'nonsense', 'unreachable'],
    [302, '', 'garbage'],
    [400, '<html>', 'garbage'],
  ] as const)('an answer with the status %i and the body %o is %s', (status, body, kind) => {
    for (const operation of OPERATIONS) expect(classify(replyOf(status, body), operation).kind).toBe(kind);
  });

  test.each(['insufficient_funds', 'balance_insufficient', 'charge_disputed', 'refund_disputed_payment'])(
    'the refusal %s of a refund is temporary, and the same refusal of a create call is not definite',
    (code) => {
      expect(classify(replyOf(400, refusal({ code })), 'refund').kind).toBe('not_now');
      expect(classify(replyOf(400, refusal({ code })), 'create').kind).toBe('unreachable');
    },
  );

  test("errors contain the delay, whether the answer was replayed, and Stripe's code, but no key", () => {
    const message = "Expired API Key provided: sk_live_canary and 'whsec_canary'";
    const reply = (headers: Record<string, string>) =>
      replyOf(429, refusal({ code: 'rate_limit', message }), headers);
    const error = classify(reply({ 'retry-after': '3', 'idempotent-replayed': 'true' }), 'create');
    expect(error).toMatchObject({ retryAfterMs: 3_000, isReplayed: true });
    expect(classify(reply({ 'retry-after': 'soon' }), 'create').retryAfterMs).toBeUndefined();
    expect(refusalIn(error)).toMatchObject({ type: 'invalid_request_error', code: 'rate_limit' });
    expect(JSON.stringify([error.message, error.cause])).not.toContain('canary');
  });
});
