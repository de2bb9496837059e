import { randomUUID } from 'node:crypto';
import { describe, expect, test } from 'vitest';
import { ACCOUNT_READ_EVERY_MS, ChannelAccounts } from '../../src/api/channel-accounts.ts';
import { FailedLookups } from '../../src/api/http/failed-lookups.ts';
import { CHECKED_A_SECOND, CHECKED_OF_ADDRESS } from '../../src/api/unverified-checks.ts';
import { CallbackError, type ChannelAdapter } from '../../src/domain/channel.ts';
import { ensureMerchant } from '../../src/ledger/merchants.ts';
import {
  accountReads,
  api,
  bogus,
  clock,
  database,
  exhaustCallbacks,
  forged,
  forgedCallback,
  key,
  now,
  paymentOfNewAccount,
  queries,
  statements,
} from './anonymous-support.ts';
import type { TestApi } from './support.ts';
import { type Call, newOrderId, pay, SECRET, simulatorCallback, startTestApi } from './support.ts';

// Tests that callbacks that nodrop cannot verify cause only a limited amount of work. Also tests how soon nodrop uses
// the new data of a changed account.

test('an account is read from the database at most once a minute, however many callbacks arrive for it', async () => {
  const { accountId } = await paymentOfNewAccount();
  const accounts = new ChannelAccounts(api.db, SECRET, new FailedLookups(now, async () => new Set()), now);
  const name = { channel: 'simulator', id: accountId };
  const readsAfter = async (ms: number) => {
    clock.now += ms;
    const since = queries.mock.calls.length;
    for (let n = 0; n < 3; n += 1)
      expect(await accounts.find(name, '192.0.2.1')).toMatchObject({ id: accountId });
    return accountReads(since).length;
  };
  expect(await readsAfter(0)).toBe(1);
  expect(await readsAfter(59_999)).toBe(0);
  expect(await readsAfter(1)).toBe(1);
});

describe('the limit of bytes per second for checking unverifiable callbacks', () => {
  const SIZE = 250_000;
  const largeForged = { x: 'y'.repeat(SIZE) };
  const large = (id: string) => simulatorCallback(id, undefined, { padding: 'y'.repeat(SIZE) });
  const behindProxy = () =>
    startTestApi(database.url, {
      now,
      config: { ...api.deps.config, api: { ...api.deps.config.api, trustedProxies: ['loopback'] } },
    });
  const send = (to: TestApi, from: string, call: Call) =>
    to.call('/callbacks/simulator', { ...call, headers: { ...call.headers, 'x-forwarded-for': from } });
  const sendOf = async (to: TestApi, from: string, call: () => Call, times: number) => {
    const statuses = [];
    for (let n = 0; n < times; n += 1) statuses.push((await send(to, from, call())).status);
    return statuses;
  };
  /** The number of callbacks with a body of SIZE bytes that fit into a limit of `bytes`. */
  const within = (bytes: number) => Math.floor(bytes / (SIZE + 4_096 + 100));

  test('an address whose forged callbacks have used only a part of the limit can still send verified callbacks', async () => {
    const { id } = await pay(api, key);
    const unchecked = async () =>
      /result="unchecked"\} (\d+)/.exec(await api.deps.metrics.registry.metrics())?.[1] ?? '0';
    const before = await unchecked();
    for (let n = 0; n < 40; n += 1) {
      expect((await forged(api, largeForged)).status).toBe(401);
      if (n % 10 === 0) expect((await api.call('/callbacks/simulator', large(id))).status).toBe(200);
    }
    expect(await unchecked()).toBe(before);
  });

  test('when the limit for all addresses is reached, an address is refused only if it has used up its own share', async () => {
    const { id } = await pay(api, key);
    const behind = await behindProxy();
    try {
      // Verified callbacks do not count against the limit for forged callbacks.
      const many = within(CHECKED_A_SECOND) + 5;
      expect(await sendOf(behind, '192.0.2.1', () => large(id), many)).toEqual(Array(many).fill(200));
      const forgedOnes = await sendOf(behind, '192.0.2.1', () => forgedCallback(largeForged), many);
      const checked = forgedOnes.filter((status) => status === 401);
      expect(checked).toHaveLength(within(CHECKED_A_SECOND));
      expect(forgedOnes.slice(checked.length)).toEqual(Array(many - checked.length).fill(429));
      const refused = await send(behind, '192.0.2.1', large(id));
      expect([refused.status, refused.headers.get('retry-after')]).toEqual([429, '1']);
      expect(await behind.deps.metrics.registry.metrics()).toMatch(/result="unchecked"/);

      // Each sender address has its own share of the limit. Verified callbacks do not use up the share.
      const share = within(CHECKED_OF_ADDRESS);
      expect(await sendOf(behind, '192.0.2.2', () => large(id), 2 * share)).toEqual(
        Array(2 * share).fill(200),
      );
      expect(await sendOf(behind, '192.0.2.2', () => forgedCallback(largeForged), share + 2)).toEqual([
        ...Array(share).fill(401),
        429,
        429,
      ]);
      expect((await send(behind, '192.0.2.3', large(id))).status).toBe(200);

      clock.now += 1_000;
      expect((await send(behind, '192.0.2.1', large(id))).status).toBe(200);
    } finally {
      await behind.close();
    }
  });
});

describe('the payment that an unverifiable callback names', () => {
  test('the payment that a forged callback names is read at most once in 10 s', async () => {
    const { id } = await pay(api, key);
    const content = { data: { outTradeNo: id } };
    await forged(api, content);
    const since = queries.mock.calls.length;
    for (let n = 0; n < 5; n += 1) expect((await forged(api, content)).status).toBe(401);
    expect(statements(since).filter((text) => /payments/.test(text))).toEqual([]);
  });

  test('if the payment that a forged callback names does not exist yet, a forged callback that arrives after its creation finds it', async () => {
    const id = `pay_${bogus().slice(0, 20)}`;
    const content = { data: { outTradeNo: id } };
    const { id: made } = await pay(api, key);
    api.workflows.calls.length = 0;
    await forged(api, content);
    expect(api.workflows.calls).toEqual([]);
    await api.db.payment.update({ where: { id: made }, data: { id } });
    await forged(api, content);
    expect(api.workflows.calls).toMatchObject([{ name: 'hint', paymentId: id }]);
  });
});

describe('an account that has changed since it was read', () => {
  /** A channel whose secret belongs to the account. In this test the secret is the merchant's id. */
  const rotating = (secret: () => string): ReadonlyMap<string, ChannelAdapter> => {
    const adapter = api.deps.channels.get('simulator');
    if (adapter === undefined) throw new Error('no simulator');
    return new Map([
      [
        'simulator',
        {
          ...adapter,
          async verifyCallback(account, request) {
            if (account.merchantId !== secret())
              throw new CallbackError('unverified', 'signed with another secret');
            return await adapter.verifyCallback(account, request);
          },
        },
      ],
    ]);
  };

  test.each(['within', 'beyond', 'with nonsense, within'] as const)(
    'a callback that is signed with the new secret is accepted (%s the limit)',
    async (where) => {
      const { accountId } = await paymentOfNewAccount();
      const before = await api.db.channelAccount.findUniqueOrThrow({ where: { id: accountId } });
      const { merchant } = await ensureMerchant(api.db, `m-${randomUUID()}`, []);
      let secret = before.merchantId;
      const own = await startTestApi(database.url, { now, channels: rotating(() => secret) });
      const path = `/callbacks/simulator/${accountId}`;
      try {
        expect((await own.call(path, simulatorCallback(newOrderId().slice(0, 30)))).status).toBe(200);
        if (where === 'beyond') {
          await exhaustCallbacks(own, path);
          clock.now += ACCOUNT_READ_EVERY_MS;
        }
        await api.db.channelAccount.update({ where: { id: accountId }, data: { merchantId: merchant.id } });
        secret = merchant.id;
        if (where === 'with nonsense, within') {
          const nonsense = simulatorCallback('pay_nobody', undefined, { amount: 'much' });
          expect((await own.call(path, nonsense)).json.code).toBe('callback_malformed');
          await own.unverified.flush();
          expect(await api.db.unverifiedCallback.count({ where: { channelAccountId: accountId } })).toBe(0);
        }
        expect((await own.call(path, simulatorCallback(newOrderId().slice(0, 30)))).status).toBe(200);
        // All forged callbacks beyond the limit together cause at most one read of the accounts in two seconds.
        if (where !== 'beyond') return;
        secret = 'another';
        clock.now += ACCOUNT_READ_EVERY_MS;
        const since = queries.mock.calls.length;
        for (let n = 0; n < 50; n += 1) expect((await forged(own, {}, path)).status).toBe(429);
        expect(statements(since)).toHaveLength(1);
      } finally {
        await own.close();
      }
    },
  );

  test('callbacks of a removed account go to the account that has replaced it', async () => {
    const own = await startTestApi(database.url, { now });
    try {
      await api.db.channelAccount.updateMany({
        where: { channel: 'simulator2' },
        data: { ownsChannelAddress: false },
      });
      const { merchant } = await ensureMerchant(api.db, `m-${randomUUID()}`, ['simulator2']);
      const old = await api.db.channelAccount.findFirstOrThrow({ where: { merchantId: merchant.id } });
      expect((await forged(own, {}, '/callbacks/simulator2')).status).toBe(401);
      await own.unverified.flush();
      await api.db.unverifiedCallback.deleteMany({ where: { channelAccountId: old.id } });
      await api.db.channelAccount.delete({ where: { id: old.id } });
      expect(
        (await own.call('/callbacks/simulator2', simulatorCallback('pay_nobody', 'msg_gone'))).status,
      ).toBe(404);
      await ensureMerchant(api.db, merchant.name, ['simulator2']);
      expect(
        (await own.call('/callbacks/simulator2', simulatorCallback('pay_nobody', 'msg_gone'))).status,
      ).toBe(200);
      const first = await api.db.channelAccount.findFirstOrThrow({ where: { merchantId: merchant.id } });
      expect(await api.db.callback.count({ where: { channelAccountId: first.id } })).toBe(1);
      // An account that replaces a deleted account is used immediately.
      await api.db.callback.deleteMany({ where: { channelAccountId: first.id } });
      await api.db.channelAccount.delete({ where: { id: first.id } });
      await ensureMerchant(api.db, merchant.name, ['simulator2']);
      expect(
        (await own.call('/callbacks/simulator2', simulatorCallback('pay_nobody', 'msg_gone'))).status,
      ).toBe(200);
    } finally {
      await own.close();
    }
  });
});
