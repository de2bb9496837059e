import { describe, expect, test, vi } from 'vitest';
import {
  adapter,
  createdTrade,
  direct,
  double,
  folder,
  lastBody,
  paidTrade,
  seen,
} from './adapter-support.ts';
import { accountOf, actionOf, errorOf, newAdapter, newTrade, refundOf } from './support.ts';

/**
 * Tests how the adapter obtains the keys that verify answers, and how it handles failures on the way to WeChat Pay and
 * errors of an account.
 */

describe.skipIf(folder === undefined)('keys', () => {
  test('an answer is garbage if it is unsigned, wrongly signed, old, or signed with an unknown key', async () => {
    const trade = await paidTrade();
    for (const kind of ['unsigned', 'wrong signature', 'unknown serial', 'old', 'nonsense'] as const) {
      await double.tell('fault', { kind, to: 'out-trade-no' });
      const error = await errorOf(adapter.queryTrade(direct(), trade));
      expect(error, kind).toMatchObject({ kind: 'garbage' });
    }
    // The adapter does not accept a refusal with a wrong signature either.
    await double.tell('fault', { kind: 'wrong signature', to: 'out-trade-no' });
    expect(await errorOf(adapter.queryTrade(direct(), newTrade()))).toMatchObject({ kind: 'garbage' });
    expect(await adapter.queryTrade(direct(), trade)).toMatchObject({ state: 'paid' });
  });

  const certificatesAsked = async () =>
    (await seen()).filter(({ path }) => path === '/v3/certificates').length;

  test('certificates are fetched once, and fetched again if an answer has an unknown serial number', async () => {
    const before = await certificatesAsked();
    const trades = await Promise.all([createdTrade(), createdTrade(), createdTrade()]);
    expect(await certificatesAsked()).toBe(before + 1);
    const [trade = newTrade()] = trades;
    vi.useFakeTimers({ toFake: ['Date'], now: Date.now() + 61_000 });
    try {
      await double.tell('rotate', {});
      expect(await adapter.queryTrade(direct(), trade)).toEqual({ state: 'unpaid' });
      expect(await certificatesAsked()).toBe(before + 2);
      await double.tell('signWithOldest', {});
      expect(await adapter.queryTrade(direct(), trade)).toEqual({ state: 'unpaid' });
      // If the serial number of an answer is unknown, the adapter does not fetch the certificates again for every
      // answer.
      await double.tell('fault', { kind: 'unknown serial', to: 'out-trade-no', times: 3 });
      for (let nth = 0; nth < 3; nth += 1) await errorOf(adapter.queryTrade(direct(), trade));
      expect(await certificatesAsked()).toBe(before + 2);
    } finally {
      vi.useRealTimers();
      await double.tell('signWithOldest', {});
    }
  });

  test('old certificates are renewed in the background, and calls continue if a renewal fails', async () => {
    const trade = await createdTrade();
    const before = await certificatesAsked();
    const later = Date.now() + 12 * 3_600_000 + 1;
    await double.tell('rules', { clockOffsetMs: 12 * 3_600_000 });
    vi.useFakeTimers({ toFake: ['Date'], now: later });
    try {
      // Each call can start a renewal of the certificates in the background. After a failed renewal, the adapter pauses
      // before it starts another renewal.
      let now = later;
      const failures: unknown[] = [];
      const asked = async () => {
        now += 2_001;
        vi.setSystemTime(now);
        await adapter.queryTrade(direct(), trade).catch((error: unknown) => failures.push(error));
        return await certificatesAsked();
      };
      await double.tell('faults', {
        faults: [
          { kind: 'status', to: '/v3/certificates' },
          // A 404 is not signed. So it proves nothing about the certificates that the adapter already knows.
          { kind: 'status', to: '/v3/certificates', status: 404, code: 'RESOURCE_NOT_EXISTS' },
        ],
      });
      await expect.poll(asked).toBe(before + 3);
      expect(await asked()).toBe(before + 3);
      expect(failures).toEqual([]);
    } finally {
      vi.useRealTimers();
    }
  });

  test('if WeChat Pay has no certificates for a merchant, the error tells the merchant to set the public key', async () => {
    await double.tell('fault', {
      ...{ kind: 'status', to: '/v3/certificates', status: 404, code: 'RESOURCE_NOT_EXISTS' },
    });
    expect(await errorOf(newAdapter().checkAccount(direct()))).toMatchObject({
      ...{ kind: 'misconfigured', message: expect.stringContaining('public_key_id') },
    });
  });

  test('forged or tampered certificates are rejected', async () => {
    await double.tell('fault', { kind: 'other certificates', to: '/v3/certificates' });
    expect(await errorOf(newAdapter().createTrade(direct(), newTrade()))).toMatchObject({ kind: 'garbage' });
    await double.tell('fault', { kind: 'tampered certificates', to: '/v3/certificates' });
    expect(await errorOf(newAdapter().createTrade(direct(), newTrade()))).toMatchObject({
      ...{ kind: 'misconfigured', message: expect.stringContaining('api_v3_key') },
    });
    await double.tell('fault', { kind: 'wrong signature', to: '/v3/certificates' });
    expect(await errorOf(newAdapter().createTrade(direct(), newTrade()))).toMatchObject({ kind: 'garbage' });
  });

  test('if a public key is set, answers are verified with this key, and no certificates are requested', async () => {
    const before = await certificatesAsked();
    const modern = accountOf(double.accounts.modern);
    const trade = newTrade();
    await adapter.createTrade(modern, trade);
    expect(await adapter.queryTrade(modern, trade)).toEqual({ state: 'unpaid' });
    await adapter.checkAccount(modern);
    expect(await certificatesAsked()).toBe(before);
  });

  test("the request of a service provider names the sub-merchant, and states whether the payer's openid belongs to the provider or the sub-merchant", async () => {
    const { provider } = double.accounts;
    const trade = newTrade({ method: 'jsapi' });
    await adapter.createTrade(accountOf(provider), trade);
    expect(await lastBody()).toMatchObject({
      ...{ sp_mchid: '1900000112', sp_appid: 'wx6666666666666666', sub_mchid: '1900000201' },
      payer: { sp_openid: 'o-openid-1' },
    });
    await double.tell('pay', { outTradeNo: trade.outTradeNo });
    expect(await adapter.queryTrade(accountOf(provider), trade)).toMatchObject({ state: 'paid' });
    const refund = refundOf(trade);
    await adapter.refundTrade(accountOf(provider), trade, refund);
    expect(await adapter.queryRefund(accountOf(provider), trade, refund)).toMatchObject({
      state: 'processing',
    });
    const old = newTrade({}, 6);
    await double.tell('rules', { clockOffsetMs: -240_000 });
    await adapter.createTrade(accountOf(provider), old);
    await double.tell('rules', { clockOffsetMs: 240_000 });
    expect(await adapter.closeTrade(accountOf(provider), old)).toEqual({ state: 'closed' });
    const own = accountOf({ ...provider, sub_appid: 'wx5555555555555555' });
    const { params } = actionOf(await adapter.createTrade(own, newTrade({ method: 'app' })));
    expect(params).toMatchObject({ appid: 'wx5555555555555555', partnerid: '1900000201' });
    const { params: inPage } = actionOf(await adapter.createTrade(own, newTrade({ method: 'jsapi' })));
    expect(inPage).toMatchObject({ appId: 'wx5555555555555555' });
    expect(await lastBody()).toMatchObject({ payer: { sub_openid: 'o-openid-1' } });
  });
});

describe.skipIf(folder === undefined)('failures', () => {
  test('if WeChat Pay accepts an order and its answer is lost, the repeated request returns the same order', async () => {
    await createdTrade();
    const trade = newTrade();
    await double.tell('fault', { kind: 'acts, then silent', to: 'POST /v3/pay' });
    const controller = new AbortController();
    const asking = errorOf(adapter.createTrade(direct(), trade, controller.signal));
    await expect.poll(async () => await double.tell('books', trade)).toMatchObject({ trades: 1 });
    controller.abort(new Error('enough'));
    expect(await asking).toMatchObject({ kind: 'unreachable' });
    expect(actionOf(await adapter.createTrade(direct(), trade)).type).toBe('qr');
    expect(await double.tell('books', trade)).toMatchObject({ trades: 1 });
  });

  test('a call ends even if the request for certificates gets no answer', async () => {
    await double.tell('fault', { kind: 'silent', to: '/v3/certificates' });
    expect(await errorOf(newAdapter().createTrade(direct(), newTrade()))).toMatchObject({
      kind: 'unreachable',
    });
  });

  test('an error that wrong settings cause has the kind misconfigured and names the setting', async () => {
    const { direct: right, stranger } = double.accounts;
    const wrong = {
      'private_key and the clock': stranger,
      'bind appid': { ...right, appid: 'wx0000000000000000' },
      api_v3_key: { ...right, api_v3_key: 'x'.repeat(32) },
      'private_key cannot be read': {
        ...right,
        private_key: '-----BEGIN PRIVATE KEY-----AAAA-----END PRIVATE KEY-----',
      },
      'belong together': { ...right, public_key_id: 'PUB_KEY_ID_1' },
      'needs sub_mchid': { ...right, sub_appid: 'wx8888888888888888' },
      'no serial_no': { ...right, serial_no: undefined as unknown as string },
    };
    for (const [says, credentials] of Object.entries(wrong)) {
      const given = Object.fromEntries(
        Object.entries(credentials).filter(([, value]) => value !== undefined),
      );
      const error = await errorOf(newAdapter().createTrade(accountOf(given), newTrade()));
      expect(error, says).toMatchObject({ kind: 'misconfigured', message: expect.stringContaining(says) });
    }
    await double.tell('rules', { clockOffsetMs: 900_000 });
    expect(await errorOf(newAdapter().checkAccount(direct()))).toMatchObject({
      ...{ kind: 'misconfigured', message: expect.stringMatching(/clock of this machine is \d+ s behind/) },
    });
  });

  test('checkAccount accepts a private key with or without line breaks', async () => {
    const { direct: right, stranger } = double.accounts;
    const flat = { ...right, private_key: (right.private_key ?? '').replaceAll('\n', '') };
    const escaped = { ...right, private_key: (right.private_key ?? '').replaceAll('\n', '\\n') };
    const { pattern } = adapter.declaration.settings.find(({ name }) => name === 'private_key') ?? {};
    for (const given of [right, flat, escaped]) {
      expect(pattern?.[0].test(given.private_key ?? '')).toBe(true);
      await adapter.checkAccount(accountOf(given));
    }
    expect(await errorOf(adapter.checkAccount(accountOf(stranger, right)))).toMatchObject({
      kind: 'misconfigured',
    });
  });
});
