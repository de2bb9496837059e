import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import {
  classify,
  isUnknown,
  type Operation,
  type Reply,
  refusalIn,
} from '../../../src/channels/mollie/classify.ts';

/** Tests that an answer of Mollie is definite only if it is about one of the listed fields. */

const OPERATIONS = ['create', 'refund', 'other'] as const satisfies readonly Operation[];

const replyOf = (status: number, body: unknown, headers: Record<string, string> = {}): Reply => ({
  status,
  headers: new Headers(headers),
  text: typeof body === 'string' ? body : JSON.stringify(body),
});
const refusal = (status: number, detail: string, field?: string) => ({
  ...{ status, title: 'Refused', detail },
  ...(field === undefined ? {} : { field }),
  _links: { documentation: { href: 'https://docs.mollie.com/reference/handling-errors' } },
});

/** The complete list. */
const DEFINITE: Readonly<Record<Operation, readonly string[]>> = {
  create: ['amount', 'amount.currency', 'amount.value', 'description', 'method'],
  refund: ['amount', 'amount.currency', 'amount.value'],
  other: [],
};

describe('refusals', () => {
  test('a refusal is definite if its field is listed for the operation', () => {
    for (const operation of OPERATIONS) {
      for (const field of DEFINITE[operation]) {
        const { kind } = classify(replyOf(422, refusal(422, 'No.', field)), operation);
        expect(kind, `${operation} ${field}`).toBe('rejected');
      }
    }
  });

  const fields = fc.oneof(
    fc.constantFrom(
      ...DEFINITE.create,
      'webhookUrl',
      'redirectUrl',
      'metadata',
      'issuer',
      'lines.0.amount',
      'constructor',
    ),
    fc.string(),
  );
  const statuses = fc.oneof(
    fc.constantFrom(200, 302, 400, 401, 403, 404, 409, 410, 422, 429, 500, 503),
    fc.integer({ min: 300, max: 599 }),
  );
  const bodies = fc.oneof(
    fc.record(
      {
        status: statuses,
        title: fc.string(),
        detail: fc.oneof(fc.constant('A duplicate refund has been detected'), fc.string()),
        field: fields,
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
        statuses,
        bodies,
        fc.boolean(),
        (operation, status, given, isSame) => {
          // A random body almost never contains the status of its answer, so the test writes the status into some
          // bodies.
          const isObject = typeof given === 'object' && given !== null && !Array.isArray(given);
          const body = isObject && isSame ? { title: '', detail: '', ...given, status } : given;
          const { kind } = classify(replyOf(status, body), operation);
          if (kind !== 'rejected' && kind !== 'not_now') return;
          const said = body as { status: number; field?: string; detail: string };
          expect(said.status, 'the status in the body').toBe(status);
          if (kind === 'not_now') {
            expect([operation, status]).toEqual(['refund', 409]);
            expect(said.detail).toMatch(/duplicate refund/);
          } else {
            expect(status).toBe(422);
            expect(DEFINITE[operation]).toContain(said.field);
          }
        },
      ),
      { numRuns: 5_000 },
    );
  });
});

describe('other answers', () => {
  const SUSPENDED = refusal(422, 'Your account is suspended');
  test.each([
    [401, refusal(401, 'Missing authentication, or failed to authenticate'), 'misconfigured'],
    [403, '<html>', 'misconfigured'],
    [422, SUSPENDED, 'unreachable'],
    [422, refusal(422, 'No.', 'metadata'), 'unreachable'],
    [422, refusal(404, 'No.', 'amount'), 'garbage'],
    [400, refusal(400, 'The idempotency key was used'), 'unreachable'],
    [404, refusal(404, 'No payment exists with token tr_1.'), 'unreachable'],
    [404, '<html>', 'garbage'],
    [409, refusal(409, 'Conflict'), 'unreachable'],
    [429, refusal(429, 'You have exceeded the rate limit.'), 'rate_limited'],
    [429, '', 'rate_limited'],
    [503, refusal(503, 'Payment platform for this payment method temporarily not available'), 'unreachable'],
    [500, 'nonsense', 'unreachable'],
    [302, '', 'garbage'],
  ] as const)('an answer with the status %i and the body %o is %s', (status, body, kind) => {
    for (const operation of OPERATIONS) expect(classify(replyOf(status, body), operation).kind).toBe(kind);
  });

  test('a second refund of the same amount within an hour is refused only temporarily', () => {
    const twin = replyOf(409, refusal(409, 'A duplicate refund has been detected'));
    expect(classify(twin, 'refund').kind).toBe('not_now');
    expect(classify(twin, 'create').kind).toBe('unreachable');
  });

  test('if Mollie rejects a URL of nodrop, the error is misconfigured, so that no payment fails', () => {
    const details = {
      webhookUrl: "The webhook URL is invalid because it is unreachable from Mollie's point of view",
      redirectUrl: 'The redirect URL is invalid',
    };
    for (const [field, detail] of Object.entries(details)) {
      const error = classify(replyOf(422, refusal(422, detail, field)), 'create');
      expect(error, field).toMatchObject({
        kind: 'misconfigured',
        message: expect.stringContaining('NODROP_PUBLIC_URL'),
      });
    }
  });

  test("errors contain the delay, whether the answer was replayed, and Mollie's message, but no key", () => {
    const body = refusal(429, 'Slow down, test_canary and live_canary of access_canary');
    const error = classify(
      replyOf(429, body, { 'retry-after': '3', 'idempotent-replayed': 'true' }),
      'create',
    );
    expect(error).toMatchObject({ retryAfterMs: 3_000, isReplayed: true });
    expect(classify(replyOf(429, body, { 'retry-after': 'soon' }), 'create').retryAfterMs).toBeUndefined();
    expect(refusalIn(error)).toMatchObject({ status: 429 });
    expect(JSON.stringify([error.message, error.cause])).not.toContain('canary');
  });

  test("an id is reported as unknown only if Mollie's own refusal names this id", () => {
    const unknown = (reply: Reply) => isUnknown(classify(reply, 'other'), 'tr_1');
    expect(unknown(replyOf(404, refusal(404, 'No payment exists with token tr_1.')))).toBe(true);
    expect(unknown(replyOf(404, refusal(404, 'No payment exists with token tr_2.')))).toBe(false);
    expect(unknown(replyOf(404, '<html>tr_1</html>'))).toBe(false);
    expect(unknown(replyOf(410, refusal(410, 'tr_1 is gone')))).toBe(false);
  });
});
