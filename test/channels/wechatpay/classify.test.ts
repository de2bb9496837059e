import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { classify, type Operation, refusalIn } from '../../../src/channels/wechatpay/classify.ts';
import type { ChannelErrorKind } from '../../../src/domain/channel.ts';

const reply = (status: number, text: string, headers: Record<string, string> = {}) => ({
  ...{ status, text },
  headers: new Headers(headers),
});
const refusal = (code: string, field?: string) =>
  JSON.stringify({ code, message: '说明', ...(field === undefined ? {} : { detail: { field } }) });
const kindOf = (operation: Operation, status: number, code: string, field?: string) =>
  classify(reply(status, refusal(code, field)), operation).kind;

describe('refusals', () => {
  test.each<[Operation, number, string, ChannelErrorKind]>([
    ['create', 400, 'PARAM_ERROR', 'rejected'],
    ['create', 403, 'PARAM_ERROR', 'unreachable'],
    ['other', 400, 'PARAM_ERROR', 'unreachable'],
    ['create', 400, 'INVALID_REQUEST', 'unreachable'],
    ['create', 403, 'OUT_TRADE_NO_USED', 'unreachable'],
    ['create', 400, 'ORDERPAID', 'unreachable'],
    ['create', 400, 'ORDER_CLOSED', 'unreachable'],
    ['create', 403, 'RULE_LIMIT', 'not_now'],
    ['refund', 400, 'PARAM_ERROR', 'rejected'],
    ['refund', 403, 'USER_ACCOUNT_ABNORMAL', 'rejected'],
    ['refund', 403, 'NOT_ENOUGH', 'not_now'],
    ['refund', 400, 'INVALID_REQUEST', 'not_now'],
    ['refund', 404, 'RESOURCE_NOT_EXISTS', 'unreachable'],
    ['create', 401, 'SIGN_ERROR', 'misconfigured'],
    ['refund', 403, 'NO_AUTH', 'misconfigured'],
    ['create', 403, 'NOAUTH', 'misconfigured'],
    ['create', 400, 'MCH_NOT_EXISTS', 'misconfigured'],
    ['create', 400, 'APPID_MCHID_NOT_MATCH', 'misconfigured'],
    ['refund', 403, 'FREQUENCY_LIMITED', 'rate_limited'],
    ['create', 429, 'RATELIMIT_EXCEEDED', 'rate_limited'],
    ['create', 500, 'SYSTEM_ERROR', 'unreachable'],
    ['create', 500, 'PARAM_ERROR', 'unreachable'],
    ['refund', 500, 'OPENID_MISMATCH', 'unreachable'],
  ])(
    'a refusal of the operation %s with the status %i and the code %s has the kind %s',
    (operation, status, code, kind) => {
      expect(kindOf(operation, status, code)).toBe(kind);
    },
  );

  test('a PARAM_ERROR about a field from the settings has the kind misconfigured', () => {
    for (const field of ['/body/appid', '/notify_url', '/sp_mchid', 'sub_mchid']) {
      expect(kindOf('create', 400, 'PARAM_ERROR', field), field).toBe('misconfigured');
    }
    expect(kindOf('create', 400, 'PARAM_ERROR', '/body/payer/openid')).toBe('rejected');
  });

  test("the error for a refusal contains only WeChat Pay's code and message and the delay before a retry", () => {
    const error = classify(reply(429, refusal('FREQUENCY_LIMITED'), { 'retry-after': '3' }), 'other');
    expect(error.message).toBe('wechatpay answered 429 (FREQUENCY_LIMITED): 说明');
    expect(error.retryAfterMs).toBe(3_000);
    expect(refusalIn(classify(reply(400, refusal('ORDERPAID')), 'create'))).toMatchObject({
      code: 'ORDERPAID',
    });
    expect(refusalIn(classify(reply(500, refusal('ORDERPAID')), 'create'))).toBeUndefined();
    expect(refusalIn(new Error('x'))).toBeUndefined();
  });
});

test('a refusal is definite only if its code and status are listed together, whatever the body contains', () => {
  const listed: Record<Operation, readonly string[]> = {
    create: ['400 PARAM_ERROR'],
    refund: ['400 PARAM_ERROR', '403 USER_ACCOUNT_ABNORMAL'],
    other: [],
  };
  const codes = fc.oneof(
    fc.constantFrom(...'PARAM_ERROR USER_ACCOUNT_ABNORMAL NOT_ENOUGH ORDERPAID ORDER_CLOSED'.split(' ')),
    fc.constantFrom('__proto__', 'constructor', 'toString', 'SYSTEM_ERROR', 'INVALID_REQUEST'),
    fc.string(),
  );
  const bodies = fc.oneof(
    fc.record({ code: codes, message: fc.string() }).map((body) => JSON.stringify(body)),
    fc.json(),
    fc.string(),
  );
  fc.assert(
    fc.property(
      fc.constantFrom<Operation>('create', 'refund', 'other'),
      fc.integer({ min: 100, max: 599 }),
      bodies,
      (operation, status, text) => {
        const { kind } = classify(reply(status, text), operation);
        if (kind !== 'rejected') return;
        const { code } = JSON.parse(text) as { code: string };
        expect(listed[operation]).toContain(`${status} ${code}`);
      },
    ),
    { numRuns: 2_000 },
  );
});
