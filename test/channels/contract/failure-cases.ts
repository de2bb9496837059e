import fc from 'fast-check';
import { expect } from 'vitest';
import { ChannelError } from '../../../src/domain/channel.ts';
import {
  type Bench,
  type ContractCase,
  damaged,
  endsByItself,
  errorOf,
  type Outcome,
  outcomeOf,
} from './bench.ts';
import type { Answer, Fault, Sent } from './http.ts';
import type { Call } from './types.ts';

/**
 * Tests that the adapter never reports a failure on the way to the channel as an answer, and never repeats a request.
 */

const JSON_TYPE = { 'content-type': 'application/json' };
const SERVER_ERRORS: readonly Answer[] = [
  { status: 500, headers: JSON_TYPE, body: '{"code":"SYSTEM_ERROR","message":"try again"}' },
  { status: 500, body: '' },
  { status: 502, headers: { 'content-type': 'text/html' }, body: '<html>Bad Gateway</html>' },
  { status: 503, headers: JSON_TYPE, body: '{}' },
  { status: 504, body: 'upstream request timeout' },
];
const UNKNOWN_KINDS = ['unreachable', 'garbage'];

const answers = (answer: Answer): Fault => ({ kind: 'answers', with: () => answer });

export const failureCases: readonly ContractCase[] = [
  {
    name: 'a 5xx answer to any request of any call is unknown',
    async run(bench) {
      for (const call of bench.calls) {
        for (const answer of SERVER_ERRORS) {
          await bench.atEachRequest(call, answers(answer), (outcome, sent) => {
            expect(UNKNOWN_KINDS, `${answer.status} to ${call}`).toContain(
              errorOf(outcome, `${answer.status} to ${call}`).kind,
            );
            expectNoneTwice(bench, sent, call);
          });
        }
      }
    },
  },
  {
    name: 'a lost connection is unknown in every call, and the request is not repeated',
    async run(bench) {
      for (const call of bench.calls) {
        await bench.atEachRequest(call, { kind: 'loses the answer' }, (outcome, sent) => {
          expect(errorOf(outcome, `a lost answer to ${call}`).kind).toBe('unreachable');
          expectNoneTwice(bench, sent, call);
        });
      }
    },
  },
  {
    name: 'an unreachable channel is unknown',
    async run(bench) {
      const subjects = await Promise.all(
        bench.calls.map(async (call) => [call, await bench.subjectFor(call)] as const),
      );
      for (const [call, subject] of subjects) {
        const outcome = await bench.withFault(
          () => ({ kind: 'loses the answer' }),
          () => outcomeOf(() => bench.perform(call, subject)),
        );
        expect(errorOf(outcome, call).kind).toBe('unreachable');
      }
    },
  },
  {
    name: 'a call to a channel that does not answer, or stops in the middle, times out',
    async run(bench) {
      const subjects = await Promise.all(
        bench.calls.map(async (call) => [call, await bench.subjectFor(call)] as const),
      );
      // The case tests both faults concurrently, because each one lasts until the adapter's timeout.
      const kinds = ['stays silent', 'stops in the middle'] as const;
      await bench.withFault(
        (nth) => ({ kind: kinds[nth % 2] ?? 'stays silent' }),
        () =>
          Promise.all(
            [...subjects, ...subjects].map(async ([call, subject]) => {
              const what = `${call} to a channel that does not answer`;
              const outcome = await endsByItself(
                what,
                outcomeOf(() => bench.perform(call, subject)),
              );
              expect(UNKNOWN_KINDS, what).toContain(errorOf(outcome, what).kind);
            }),
          ),
      );
    },
  },
  {
    name: 'a call ends at once when it is aborted',
    async run(bench) {
      for (const call of bench.calls) {
        const subject = await bench.subjectFor(call);
        await bench.withFault(
          () => ({ kind: 'stays silent' }),
          async () => {
            const controller = new AbortController();
            const { signal } = controller;
            const began = performance.now();
            const calling = outcomeOf(() => bench.perform(call, subject, undefined, { signal }));
            const timer = setTimeout(() => controller.abort(new Error('enough')), 20);
            errorOf(await endsByItself(`${call}, aborted,`, calling), `${call}, aborted,`);
            clearTimeout(timer);
            // The adapter's own timeout takes seconds. If a call ends only with this timeout, it has ignored the
            // signal.
            expect(performance.now() - began, `ms that ${call} took to be aborted`).toBeLessThan(5_000);
            const aborted = bench.perform(call, subject, undefined, { signal: AbortSignal.abort() });
            errorOf(
              await endsByItself(
                call,
                outcomeOf(() => aborted),
              ),
              `${call}, aborted before,`,
            );
          },
        );
      }
    },
  },
  {
    name: 'a rate limit is reported with its delay, and nothing else is concluded',
    async run(bench) {
      const { rateLimit = standardRateLimit, tellsDelay = true } = bench.protocol;
      for (const call of bench.calls) {
        const limited: Fault = {
          kind: 'answers',
          with: (request) => dressed(bench, rateLimit(3), request),
        };
        await bench.atEachRequest(call, limited, (outcome, sent) => {
          const error = errorOf(outcome, `a limit at ${call}`);
          expect(error.kind, `a limit at ${call}`).toBe('rate_limited');
          expect(error.retryAfterMs).toBe(tellsDelay ? 3_000 : undefined);
          expectNoneTwice(bench, sent, call);
        });
      }
      const { query } = { query: await bench.subjectFor('queryTrade') };
      for (const delay of ['soon', '-5', '', new Date(Date.now() + 60_000).toUTCString()]) {
        const answer = { status: 429, headers: { 'retry-after': delay }, body: '' };
        const outcome = await bench.withFault(
          () => answers(answer),
          () => outcomeOf(() => bench.perform('queryTrade', query)),
        );
        const { retryAfterMs = 0 } = errorOf(outcome, `Retry-After: ${delay}`);
        expect(retryAfterMs >= 0 && retryAfterMs <= 60_000, `Retry-After: ${delay}: ${retryAfterMs}`).toBe(
          true,
        );
      }
    },
  },
  {
    name: 'credentials that the channel rejects are misconfigured in every call, and never in the message',
    async run(bench) {
      const { wrong, secrets } = bench.contract;
      for (const call of bench.calls) {
        const subject = await bench.subjectFor(call);
        const { adapter } = wrong;
        const outcome = await outcomeOf(() => bench.perform(call, subject, wrong, { adapter }));
        const { kind, message } = errorOf(outcome, `wrong credentials at ${call}`);
        expect(kind, `wrong credentials at ${call}`).toBe('misconfigured');
        expect(message).toMatch(/\w+ \w+/);
        for (const secret of secrets) expect(message).not.toContain(secret);
      }
      await bench.adapter.checkAccount(bench.account);
    },
  },
  {
    name: 'requests use the newest credentials of an account during rotation',
    appliesTo: ({ ours }) => ours.account.credentials.length > 0,
    async run(bench) {
      const { ours, wrong } = bench.contract;
      const rotated = (newest: typeof ours, older: typeof ours) => ({
        ...ours.account,
        credentials: [...newest.account.credentials, ...older.account.credentials],
      });
      await bench.adapter.checkAccount(rotated(ours, wrong));
      await expect(bench.adapter.checkAccount(rotated(wrong, ours))).rejects.toMatchObject({
        kind: 'misconfigured',
      });
    },
  },
  {
    name: 'redirects are not followed',
    async run(bench) {
      for (const call of bench.calls) {
        for (const status of [301, 302, 303, 307, 308]) {
          const subject = await bench.subjectFor(call);
          const outcome = await bench.withFault(
            () => answers({ status, headers: { location: `${bench.elsewhere.url}/` }, body: '' }),
            () => outcomeOf(() => bench.perform(call, subject)),
          );
          expect(bench.elsewhere.requests, 'where redirects led').toEqual([]);
          const { kind } = errorOf(outcome, `${status} to ${call}`);
          expect(UNKNOWN_KINDS, `${status} to ${call}`).toContain(kind);
        }
      }
    },
  },
  {
    name: 'no combination of status and body is definite',
    async run(bench) {
      for (const call of bench.calls) {
        const subject = await bench.subjectFor(call);
        await fc.assert(
          fc.asyncProperty(statuses, bodies, fc.boolean(), async (status, body, isDressed) => {
            if (bench.protocol.statusSaysAll?.(call, status)) return;
            const answer = { status, headers: JSON_TYPE, body };
            expectNothingConcluded(call, await answered(bench, call, subject, answer, isDressed));
          }),
          { numRuns: 120 },
        );
      }
    },
  },
  {
    name: 'a refusal with a code that is not listed is never definite',
    async run(bench) {
      for (const call of bench.calls) {
        const subject = await bench.subjectFor(call);
        const listed = new Set(bench.protocol.listedCodes[call] ?? []);
        await fc.assert(
          fc.asyncProperty(refusalStatuses, codes, async (status, code) => {
            if (listed.has(code) || bench.protocol.statusSaysAll?.(call, status)) return;
            const answer = bench.protocol.refusal(status, code);
            expectNothingConcluded(call, await answered(bench, call, subject, answer, true));
          }),
          { numRuns: 80 },
        );
      }
    },
  },
  {
    name: 'a refusal that the channel documents as definite is rejected, only for create and refund',
    async run(bench) {
      for (const call of ['createTrade', 'refundTrade'] as const) {
        for (const [status, code] of bench.protocol.definite[call] ?? []) {
          const answer = bench.protocol.refusal(status, code);
          const refusing: Fault = { kind: 'answers', with: (request) => dressed(bench, answer, request) };
          const kinds = new Set<string>();
          // A call may send several requests. At least one of them must give the result `rejected` when it is refused.
          await bench.atEachRequest(call, refusing, (outcome) => {
            if ('error' in outcome) kinds.add(errorOf(outcome, `${code} to ${call}`).kind);
          });
          expect([...kinds], `${code} to ${call}`).toContain('rejected');
        }
      }
    },
  },
  {
    name: 'an answer about another trade, or with a missing or changed part, is never accepted as something wrong',
    async run(bench) {
      const unpaid = await bench.createOpened();
      const paid = await bench.createPaid();
      const ofUnpaid = await bench.lastAnswer(() => bench.query(unpaid));
      const ofPaid = await bench.lastAnswer(() => bench.query(paid));
      const trade = { trade: unpaid, refund: bench.refundOf(unpaid) };
      const whole = await answered(bench, 'queryTrade', trade, ofPaid, true);
      expectNotPaid(whole, "another trade's answer");
      for (const body of damaged(ofUnpaid.body)) {
        expectNotPaid(await answered(bench, 'queryTrade', trade, { ...ofUnpaid, body }, true), body);
      }
      const { amount, currency } = paid;
      const of = { trade: paid, refund: bench.refundOf(paid) };
      for (const body of damaged(ofPaid.body)) {
        const outcome = await answered(bench, 'queryTrade', of, { ...ofPaid, body }, true);
        const answer = 'error' in outcome ? undefined : (outcome.answer as { state: string });
        if (answer?.state === 'paid') expect(answer).toMatchObject({ amount, currency });
        else expect(['closed', 'failed', 'refunded']).not.toContain(answer?.state);
      }
    },
  },
];

const standardRateLimit = (seconds: number): Answer => ({
  status: 429,
  headers: { 'retry-after': String(seconds) },
  body: '',
});

const dressed = (bench: Bench, answer: Answer, request: Sent): Answer =>
  bench.protocol.dress?.(answer, request) ?? answer;

/** Makes the call, and returns this answer to each request that the call sends. */
async function answered(
  bench: Bench,
  call: Call,
  subject: Parameters<Bench['perform']>[1],
  answer: Answer,
  isDressed: boolean,
): Promise<Outcome> {
  const fault: Fault = {
    kind: 'answers',
    with: (request) => (isDressed ? dressed(bench, answer, request) : answer),
  };
  return await bench.withFault(
    () => fault,
    () => outcomeOf(() => bench.perform(call, subject)),
  );
}

function expectNothingConcluded(call: Call, outcome: Outcome): void {
  if (!('error' in outcome)) {
    // An unreadable answer may show checkAccount that the account works, but nothing else.
    if (call === 'checkAccount') return;
    expect.fail(`${call} concluded ${JSON.stringify(outcome.answer)}`);
  }
  expect(outcome.error).toBeInstanceOf(ChannelError);
  expect((outcome.error as ChannelError).kind).not.toBe('rejected');
}

function expectNotPaid(outcome: Outcome, what: string): void {
  if ('error' in outcome) {
    expect(outcome.error, what).toBeInstanceOf(ChannelError);
    return;
  }
  const { state } = outcome.answer as { state: string };
  expect(['unpaid', 'processing', 'unknown_trade'], what).toContain(state);
}

/** No request is sent twice within one call, because only Temporal retries. */
function expectNoneTwice(bench: Bench, sent: readonly Sent[], call: Call): void {
  const terms = sent.map((request) => JSON.stringify([request.method, bench.termsOf(request)]));
  expect(new Set(terms).size, `${call} sent ${terms}`).toBe(terms.length);
}

const statuses = fc.constantFrom(
  ...[
    200, 201, 202, 204, 206, 300, 304, 400, 401, 402, 403, 404, 405, 406, 408, 409, 410, 412, 413, 415, 418,
  ],
  ...[422, 423, 424, 425, 426, 428, 431, 451, 500, 501, 502, 503, 504, 520, 599],
);
const refusalStatuses = fc.constantFrom(400, 402, 403, 404, 405, 409, 410, 412, 422, 423, 424, 451);

const WORDS = [
  ...['closed', 'CLOSED', 'failed', 'FAILED', 'paid', 'PAID', 'SUCCESS', 'succeeded', 'canceled', 'expired'],
  ...['not found', 'NOT_FOUND', 'ERROR', 'error', 'OK', 'ok', 'refunded', 'unknown', 'invalid_request_error'],
];
const word = fc.constantFrom(...WORDS);
const codes = fc.oneof(
  fc.constantFrom(
    ...['NOT_FOUND', 'ORDER_NOT_FOUND', 'INVALID_REQUEST', 'ERROR', 'FORBIDDEN', 'NO_AUTH', 'CLOSED', 'PAID'],
    ...['resource_missing', 'resource_unavailable', 'card_declined', 'expired', 'locked', 'not_found', ''],
    ...['FREQUENCY', 'TRADE_LOCKED', 'DUPLICATE', 'CONFLICT', 'BANK_ERROR', 'USER_ERROR', 'constructor'],
  ),
  fc.string({ unit: fc.constantFrom(...'ABCDEFGHIJKLMNOPQRSTUVWXYZ_'), minLength: 1, maxLength: 20 }),
);
const bodies = fc.oneof(
  fc.json(),
  fc.string(),
  fc.constantFrom(
    '',
    '{}',
    '[]',
    'null',
    '0',
    '"closed"',
    '<html><h1>404 Not Found</h1></html>',
    '{"data":[]}',
  ),
  fc
    .dictionary(
      fc.constantFrom('state', 'status', 'code', 'error', 'message', 'type', 'result', 'data'),
      word,
    )
    .map((content) => JSON.stringify(content)),
  word.map((code) => JSON.stringify({ error: { code, type: code, message: code } })),
);
