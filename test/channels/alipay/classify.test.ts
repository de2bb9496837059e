import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { fen, fenOrNothing, toYuan } from '../../../src/channels/alipay/amounts.ts';
import { classify, classifyStatus, type Operation } from '../../../src/channels/alipay/classify.ts';
import { tradeAnswer } from '../../../src/channels/alipay/objects.ts';
import { fromBeijing, toBeijing } from '../../../src/channels/alipay/times.ts';

const DEFINITE: Readonly<Record<Operation, readonly string[]>> = {
  create: ['ACQ.INVALID_PARAMETER', 'ACQ.EXIST_FORBIDDEN_WORD', 'ACQ.TOTAL_FEE_EXCEED'],
  refund: [
    'ACQ.REFUND_AMT_NOT_EQUAL_TOTAL',
    'ACQ.REASON_TRADE_REFUND_FEE_ERR',
    'ACQ.REFUND_FEE_ERROR',
    'ACQ.ONLINE_TRADE_VOUCHER_NOT_ALLOW_REFUND',
  ],
  other: [],
};
const OPERATIONS = ['create', 'refund', 'other'] as const;
const ALL = [...new Set(Object.values(DEFINITE).flat())];
const KNOWN = [
  ...ALL,
  ...['ACQ.SYSTEM_ERROR', 'AQC.SYSTEM_ERROR', 'aop.ACQ.SYSTEM_ERROR', 'aop.unknow-error', 'isp.unknow-error'],
  ...['ACQ.TRADE_NOT_EXIST', 'ACQ.TRADE_HAS_SUCCESS', 'ACQ.TRADE_STATUS_ERROR', 'isv.invalid-parameter', ''],
];

describe('classify', () => {
  test('classify treats only the listed codes of each operation as definite', () => {
    for (const operation of OPERATIONS) {
      for (const sub_code of KNOWN) {
        const { kind } = classify({ code: '40004', sub_code }, operation);
        expect(kind === 'rejected', `${sub_code} at ${operation}`).toBe(
          DEFINITE[operation].includes(sub_code),
        );
      }
    }
  });

  test('classify treats no other combination of code and sub code as definite', () => {
    const codes = fc.oneof(
      fc.constantFrom('20000', '20001', '40001', '40002', '40003', '40005', '40006', '10003'),
      fc.string(),
    );
    const subCodes = fc.option(fc.oneof(fc.constantFrom(...KNOWN), fc.string()), { nil: undefined });
    fc.assert(
      fc.property(codes, subCodes, fc.constantFrom(...OPERATIONS), (code, sub_code, operation) => {
        fc.pre(code !== '40004');
        const { kind } = classify({ code, ...(sub_code === undefined ? {} : { sub_code }) }, operation);
        expect(['rejected', 'not_now']).not.toContain(kind);
      }),
    );
    fc.assert(
      fc.property(fc.string(), fc.constantFrom(...OPERATIONS), (sub_code, operation) => {
        fc.pre(!ALL.includes(sub_code));
        expect(classify({ code: '40004', sub_code }, operation).kind).not.toBe('rejected');
      }),
    );
    fc.assert(
      fc.property(fc.integer({ min: 100, max: 599 }), fc.option(fc.string()), (status, after) => {
        const { kind, retryAfterMs = 0 } = classifyStatus(status, after);
        expect(['rate_limited', 'unreachable', 'garbage']).toContain(kind);
        expect(retryAfterMs).toBeGreaterThanOrEqual(0);
      }),
    );
  });

  test("classify reports errors of the merchant's account as misconfigured, and its messages contain no part of the signed request", () => {
    for (const [code, sub_code, says] of [
      ['40002', 'isv.invalid-timestamp', /clock/],
      ['40002', 'isv.invalid-app-id', /app_id/],
      ['40006', 'isv.insufficient-isv-permissions', /contract/],
      ['20001', 'aop.invalid-app-auth-token', /20001/],
    ] as const) {
      const error = classify({ code, sub_code }, 'create');
      expect(error.kind).toBe('misconfigured');
      expect(error.message).toMatch(says);
    }
    const quoting = {
      code: '40002',
      msg: 'Invalid Arguments',
      sub_code: 'isv.invalid-signature',
      sub_msg: 'biz_content={"subject":"a ring"}',
    };
    expect(classify(quoting, 'create').message).not.toContain('a ring');
    expect(classify({ code: '40005', sub_code: 'isv.app-call-limited' }, 'other').kind).toBe('rate_limited');
    expect(classify({ code: '40004', sub_code: 'ACQ.SELLER_BALANCE_NOT_ENOUGH' }, 'refund').kind).toBe(
      'not_now',
    );
  });
});

describe('amounts', () => {
  test('amounts are converted exactly from fen to yuan and from yuan to fen', () => {
    for (const [amount, yuan] of [
      [1, '0.01'],
      [10, '0.10'],
      [1050, '10.50'],
      [10_000_000_000, '100000000.00'],
    ] as const) {
      expect(toYuan(amount)).toBe(yuan);
      expect(fen(yuan)).toBe(amount);
    }
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 10_000_000_000 }), (amount) => {
        expect(fen(toYuan(amount))).toBe(amount);
      }),
    );
    expect(fen('8')).toBe(800);
    expect(fenOrNothing('0.00')).toBe(0);
    for (const wrong of ['0.00', '1.005', '-1', '1e2', ' 1', '１', 'NaN', '', '1.', '.5'])
      expect(() => fen(wrong), wrong).toThrow();
  });
});

describe('times', () => {
  test.each(['UTC', 'America/New_York', 'Asia/Shanghai', 'Pacific/Apia'])(
    'times are sent as Beijing times even if the time zone of the process is %s',
    (zone) => {
      const before = process.env.TZ;
      process.env.TZ = zone;
      try {
        expect(toBeijing(Date.parse('2026-03-08T07:30:00Z'))).toBe('2026-03-08 15:30:00');
        expect(toBeijing(Date.parse('2026-12-31T16:00:00.999Z'))).toBe('2027-01-01 00:00:00');
        expect(fromBeijing('2027-01-01 00:00:00')).toBe('2026-12-31T16:00:00.000Z');
        expect(fromBeijing('2008-10-29 19:38:25.320')).toBe('2008-10-29T11:38:25.320Z');
      } finally {
        if (before === undefined) delete process.env.TZ;
        else process.env.TZ = before;
      }
    },
  );

  test('times that are invalid throw an error', () => {
    for (const wrong of ['', '2026-13-01 00:00:00', '2026-01-01T00:00:00', '20260101000000', '2026-01-01'])
      expect(() => fromBeijing(wrong), wrong).toThrow();
  });
});

describe('closed trades', () => {
  const closed = {
    out_trade_no: 'pay_1',
    trade_no: '1',
    trade_status: 'TRADE_CLOSED',
    total_amount: '10.50',
  } as const;

  test('a trade that Alipay calls closed is reported as closed only if no field shows a payment', () => {
    expect(tradeAnswer({ ...closed, buyer_pay_amount: '0.00', receipt_amount: '0.00' })).toEqual({
      state: 'closed',
    });
    expect(tradeAnswer({ ...closed, send_pay_date: '2026-01-01 00:00:00' })).toMatchObject({
      state: 'refunded',
      amount: 1050,
      refundedAmount: 1050,
    });
    expect(() => tradeAnswer({ ...closed, buyer_pay_amount: '10.50' })).toThrow(/without a payment time/);
  });

  test('a trade in a currency other than CNY is refused', () => {
    const trade = { ...closed, trade_status: 'TRADE_SUCCESS', send_pay_date: '2026-01-01 00:00:00' } as const;
    expect(() => tradeAnswer({ ...trade, trans_currency: 'USD' })).toThrow(/another currency/);
  });
});
