import { createPrivateKey, createPublicKey } from 'node:crypto';
import { beforeEach, describe, expect, test } from 'vitest';
import { declaration, modeOf } from '../../../src/channels/alipay/declaration.ts';
import type { Credentials } from '../../../src/domain/channel.ts';
import { oracleFolder } from '../../doubles/alipay/start.ts';
import { account, double, query, refundOf, seen, useAccount } from './adapter-support.ts';
import {
  accountOf,
  adapter,
  certifiedSettingsOf,
  errorOf,
  linkOf,
  newTrade,
  OURS,
  open,
  paid,
  settingsOf,
} from './support.ts';

/**
 * Tests against a double how the adapter checks an account and how it works in certificate mode. The double has its own
 * code to verify and sign.
 */

describe.skipIf(oracleFolder() === undefined)('the Alipay adapter', () => {
  describe('accounts', () => {
    const check = (...settings: Credentials[]) => adapter.checkAccount(accountOf(...settings));

    test('checkAccount accepts a working account', async () => {
      await check(settingsOf(double));
    });

    test("checkAccount accepts keys in the formats of Alipay's tool and of OpenSSL", async () => {
      const settings = settingsOf(double);
      const key = createPrivateKey(settings.private_key ?? '');
      const pkcs1 = key.export({ type: 'pkcs1', format: 'pem' }).toString();
      const oneLine = (pem: string) => pem.replace(/-----[^-]+-----|\s/g, '');
      for (const private_key of [pkcs1, oneLine(pkcs1), oneLine(settings.private_key ?? '')]) {
        for (const alipay_public_key of [
          settings.alipay_public_key ?? '',
          oneLine(settings.alipay_public_key ?? ''),
        ]) {
          const given: Credentials = { ...settings, private_key, alipay_public_key };
          await check(given);
          for (const { name, pattern } of declaration.settings) {
            const value = given[name];
            if (value !== undefined) expect(pattern?.[0].test(value), name).toBe(true);
          }
        }
      }
    });

    test('the error of checkAccount names the wrong key or id', async () => {
      const settings = settingsOf(double);
      const other = double.keys.strangerKey;
      const publicOf = (key: string) =>
        createPublicKey(key).export({ type: 'spki', format: 'pem' }).toString();
      const cases: [Record<string, string>, RegExp][] = [
        [{ private_key: other }, /isv\.invalid-signature.*check private_key/],
        [{ app_id: '2021000000000009' }, /isv\.invalid-app-id.*check app_id/],
        [{ alipay_public_key: publicOf(settings.private_key ?? '') }, /is the application's own/],
        [{ alipay_public_key: publicOf(other) }, /set alipay_public_key/],
        [{ private_key: 'nonsense' }, /private_key is not a readable RSA key/],
      ];
      for (const [changes, says] of cases) {
        expect(await errorOf(check({ ...settings, ...changes }))).toMatchObject({
          kind: 'misconfigured',
          message: expect.stringMatching(says),
        });
      }
      const { alipay_public_key: _key, ...neither } = settings;
      expect(await errorOf(check(neither))).toMatchObject({
        message: expect.stringMatching(/either alipay_public_key/),
      });
    });

    test('the error of checkAccount names the clock if the clock is wrong', async () => {
      await double.tell('clock', { offsetMs: 3_600_000 });
      expect(await errorOf(check(settingsOf(double)))).toMatchObject({
        kind: 'misconfigured',
        message: expect.stringMatching(/isv\.invalid-timestamp.*clock/),
      });
    });

    test('the gateway of an account shows whether the account is in test or live mode', () => {
      const { gateway: _gateway, ...live } = settingsOf(double);
      expect(modeOf(live)).toBe('live');
      expect(modeOf({ ...live, gateway: 'https://openapi-sandbox.dl.alipaydev.com/gateway.do' })).toBe(
        'test',
      );
      expect(modeOf(settingsOf(double))).toBe('test');
      const pattern = declaration.settings.find(({ name }) => name === 'gateway')?.pattern?.[0];
      for (const wrong of [
        'http://openapi.alipay.com/gateway.do',
        'https://alipay.com.evil.example/gateway.do',
      ])
        expect(pattern?.test(wrong), wrong).toBe(false);
    });
  });

  describe('certificate mode', () => {
    beforeEach(async () => {
      await double.tell('certificates', { appId: OURS });
      useAccount(certifiedSettingsOf(double));
    });

    test('in certificate mode the adapter sends the certificate numbers that python-alipay-sdk computes', async () => {
      await adapter.checkAccount(account);
      const trade = await paid(adapter, account);
      expect(await query(trade)).toMatchObject({ state: 'paid', amount: 1050 });
      expect(await adapter.refundTrade(account, trade, refundOf())).toMatchObject({ state: 'succeeded' });
      const [asked] = await seen();
      expect(asked?.params).toMatchObject({
        app_cert_sn: double.keys.apps[OURS]?.numbers.app,
        alipay_root_cert_sn: double.keys.apps[OURS]?.numbers.root,
      });
    });

    test('in certificate mode the adapter rejects a tampered answer, and reports a certificate that does not match the private key', async () => {
      const trade = newTrade();
      await open(await linkOf(adapter, account, trade));
      await double.tell('faults', [{ kind: 'tampered' }]);
      expect(await errorOf(query(trade))).toMatchObject({ kind: 'garbage' });
      const settings = { ...certifiedSettingsOf(double), private_key: double.keys.strangerKey };
      expect(await errorOf(adapter.checkAccount(accountOf(settings)))).toMatchObject({
        message: expect.stringMatching(/app_cert is the certificate of another private_key/),
      });
    });
  });
});
