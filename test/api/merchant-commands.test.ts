import { describe, expect, test } from 'vitest';
import { EVENT_TYPES } from '../../src/domain/event.ts';
import { createLedgerClient } from '../../src/ledger/client.ts';
import { findOrderService } from '../../src/ledger/merchants.ts';
import { startOrderService } from '../support/order-service.ts';
import { cli, databaseUrl } from './process-support.ts';
import { SECRET, startTestApi } from './support.ts';

// Tests the commands for merchants, keys and order services. Each command runs in its own process, and must work
// without Temporal.

describe('npm run nodrop', () => {
  test('creates a merchant and a working key, and lists keys by their last characters', async () => {
    const made = await cli(['keys', 'create', '--merchant', 'acme', '--role', 'operator']);
    expect([made.code, made.errors]).toEqual([0, '']);
    expect(made.output).toMatch(/Merchant acme is new \(mer_\w+\), with accounts at: simulator\./);
    const key = made.output.trim().split('\n').at(-1) ?? '';
    expect(key).toMatch(/^sk_[\w-]{43}$/);
    const again = await cli(['keys', 'create', '--merchant', 'acme']);
    expect(again.output).not.toContain('is new');
    const list = await cli(['keys', 'list']);
    expect(list.output).toContain(`sk_...${key.slice(-4)}`);
    expect(list.output).not.toContain(key);
    expect(list.output.split('\n').filter((line) => line.includes('acme'))).toHaveLength(2);
    const db = createLedgerClient(databaseUrl);
    expect(JSON.stringify(await db.apiKey.findMany())).not.toContain(key);
    await db.$disconnect();
  });

  test("revokes one key immediately and permanently, and leaves the merchant's other keys valid", async () => {
    const make = async () => {
      const { output } = await cli(['keys', 'create', '--merchant', 'revoker']);
      return { id: /Key (key_\w+) of/.exec(output)?.[1] ?? '', key: output.trim().split('\n').at(-1) ?? '' };
    };
    const [revokedKey, kept] = [await make(), await make()];
    const api = await startTestApi(databaseUrl);
    const ask = async ({ key }: { key: string }) => (await api.call('/v1/orders', { key })).status;
    try {
      expect(await ask(revokedKey)).toBe(200);
      const revoked = await cli(['keys', 'revoke', revokedKey.id]);
      expect(revoked).toMatchObject({ code: 0, errors: '' });
      expect(revoked.output).toMatch(new RegExp(`^Key ${revokedKey.id} is revoked since \\d{4}-.*Z\\.\n$`));
      expect([await ask(revokedKey), await ask(kept)]).toEqual([401, 200]);
      // Revoking the key a second time prints the same output.
      expect((await cli(['keys', 'revoke', revokedKey.id])).output).toBe(revoked.output);
      expect((await cli(['keys', 'list'])).output).toMatch(new RegExp(`${revokedKey.id} .*revoked \\d{4}-`));
    } finally {
      await api.close();
    }
  });

  test("lists merchants, and changes a merchant's rule for late payments", async () => {
    await cli(['keys', 'create', '--merchant', 'late']);
    const set = await cli(['merchants', 'set', 'late', '--late-payment', 'refund']);
    expect(set).toEqual({
      code: 0,
      output: 'Merchant late: the rule for late payments is now: refund.\n',
      errors: '',
    });
    const { output } = await cli(['merchants', 'list']);
    expect(output).toMatch(
      /^ID +MERCHANT +LATE PAYMENT +CHANNELS +ORDER SERVICE +READ BACK AT +SECRETS +RETURN SCHEMES +CREATED\n/,
    );
    expect(output).toMatch(/\nmer_\w+ +late +refund +simulator +embedded +\d{4}-.*Z\n/);
    // The setting of other merchants does not change.
    expect(output).toMatch(/ acme +apply +/);
  });

  test("sets the app schemes that a merchant's return URLs may have", async () => {
    await cli(['keys', 'create', '--merchant', 'app']);
    const set = (...options: string[]) => cli(['merchants', 'set', 'app', ...options]);
    const listed = async () => /\n(mer_\w+ +app .*)\n/.exec((await cli(['merchants', 'list'])).output)?.[1];
    expect(await set('--return-schemes', 'MyApp, com.example.app,myapp')).toEqual({
      code: 0,
      output: 'Merchant app: payers may now return to URLs with http, https, myapp, com.example.app.\n',
      errors: '',
    });
    expect(await listed()).toMatch(/ myapp, com\.example\.app +\d{4}-/);
    // A setting keeps its value if its option is absent. If the option is present, its value replaces the old value.
    await set('--late-payment', 'review');
    expect(await listed()).toMatch(/ myapp, com\.example\.app +\d{4}-/);
    await set('--return-schemes', 'other');
    expect(await listed()).toMatch(/ other +\d{4}-/);
    expect((await set('--no-return-schemes')).output).toBe(
      'Merchant app: payers may now return to URLs with http, https.\n',
    );
    expect(await listed()).not.toContain('other');
  });

  test('sets an order service, shows its signing secret once, and rotates the secret', async () => {
    const [url, status] = ['http://shop.example/hooks', 'http://shop.example/orders/{orderId}'];
    await cli(['keys', 'create', '--merchant', 'shop']);
    const set = (...options: string[]) => cli(['merchants', 'set', 'shop', ...options]);
    const listed = async () =>
      /\n(mer_\w+ +shop .*)\n/.exec((await cli(['merchants', 'list'])).output)?.[1] ?? '';

    const first = await set('--order-service-url', url);
    expect([first.code, first.errors]).toEqual([0, '']);
    const secret = first.output.trim().split('\n').at(-1) ?? '';
    expect(secret).toMatch(/^whsec_[A-Za-z0-9+/]{43}=$/);
    expect(first.output).toBe(
      `Merchant shop: events go to ${url}.\n` +
        'Its acknowledgements are trusted. With --order-status-url, its orders are read back.\n' +
        `Its events are signed with this secret. It is shown only now:\n${secret}\n`,
    );
    // This second run of the command also sets the URL at which orders are read back. The event URL stays, and no new
    // secret is made or shown.
    const second = await set('--order-status-url', status);
    expect(second).toEqual({
      code: 0,
      output:
        `Merchant shop: events go to ${url}.\nIts orders are read back at ${status}.\n` +
        `The events are signed with: ...${secret.slice(-4)}.\n`,
      errors: '',
    });
    expect((await set('--order-service-url', url, '--order-status-url', status)).output).toBe(second.output);
    expect(await listed()).toContain(` apply         simulator  ${url}  ${status}  ...${secret.slice(-4)}  `);

    const rotated = await cli(['merchants', 'rotate-secret', 'shop']);
    const fresh = rotated.output.trim().split('\n').at(-1) ?? '';
    expect([rotated.code, rotated.errors]).toEqual([0, '']);
    expect(rotated.output).toBe(
      'Merchant shop: events are also signed with older secrets for at most 24 h more.\n' +
        `Its events are signed with this secret. It is shown only now:\n${fresh}\n`,
    );
    const row = await listed();
    expect(row).toMatch(/ \.\.\..{4}, \.\.\..{4} \(until \d{4}-.*Z\) /);
    expect(row).toContain(` ...${fresh.slice(-4)}, ...${secret.slice(-4)} (until `);
    for (const whole of [secret, fresh]) expect(row).not.toContain(whole);
    const db = createLedgerClient(databaseUrl);
    try {
      const { id } = await db.merchant.findUniqueOrThrow({ where: { name: 'shop' } });
      const both = { url, statusUrl: status, secrets: [fresh, secret] };
      expect(await findOrderService(db, id, SECRET, new Date())).toEqual(both);
      const cut = await cli(['merchants', 'rotate-secret', 'shop', '--old-valid-hours', '0']);
      expect(cut.output).toContain('Merchant shop: events are no longer signed with older secrets.\n');
      const last = cut.output.trim().split('\n').at(-1) ?? '';
      expect((await findOrderService(db, id, SECRET, new Date()))?.secrets).toEqual([last]);

      expect((await set('--no-order-status')).output).toContain('Its acknowledgements are trusted');
      expect((await findOrderService(db, id, SECRET, new Date()))?.statusUrl).toBeNull();
      const back = await set('--no-order-service', '--late-payment', 'review');
      expect(back.output).toBe(
        'Merchant shop: the rule for late payments is now: review.\n' +
          'Merchant shop: events go to no order service. Its orders are only in the embedded order service.\n',
      );
      expect(await findOrderService(db, id, SECRET, new Date())).toBeNull();
    } finally {
      await db.$disconnect();
    }
  });

  test('sends a test event of every type, shows the answers, and fails if the order service refuses one', async () => {
    const shop = await startOrderService();
    try {
      await cli(['keys', 'create', '--merchant', 'tester']);
      const near = { NODROP_ALLOW_PRIVATE_ORDER_SERVICES: 'true' };
      const send = () => cli(['merchants', 'test-event', 'tester'], near);
      expect(await send()).toEqual({
        code: 1,
        output: '',
        errors:
          'Merchant tester has no order service. Configure one: merchants set tester --order-service-url URL\n',
      });
      const set = await cli(['merchants', 'set', 'tester', '--order-service-url', shop.url]);
      shop.secret = set.output.trim().split('\n').at(-1) ?? '';
      shop.react = ({ type }) =>
        type === 'payment.review' ? { status: 200, body: { ignored: 'a test event' } } : undefined;
      const sent = await send();
      expect([sent.code, sent.errors]).toEqual([0, '']);
      expect(sent.output).toMatch(
        /^payment\.review +200 +Accepted\. It says: \{"ignored":"a test event"\}$/m,
      );
      expect(sent.output).toMatch(/^payment\.closed +200 +Accepted\.$/m);
      const [head, columns, ...rows] = sent.output.trim().split('\n');
      expect(head).toBe(`Test events, signed like every event of merchant tester, sent to ${shop.url}:`);
      expect(columns).toMatch(/^TYPE +STATUS +ANSWER$/);
      expect(rows.map((row) => row.split(/ +/).slice(0, 2))).toEqual(
        EVENT_TYPES.map((type) => [type, '200']),
      );
      const came = shop.received.map(({ type, isSigned, body }) => [type, isSigned, JSON.parse(body).test]);
      expect(came.sort()).toEqual(EVENT_TYPES.map((type) => [type, true, true]).sort());
      // nodrop does not store test events, and reads no order back for them.
      const db = createLedgerClient(databaseUrl);
      expect([await db.event.count(), await db.delivery.count(), shop.reads]).toEqual([0, 0, []]);
      await db.$disconnect();

      shop.react = ({ type }) => (type === 'payment.review' ? { status: 401 } : undefined);
      const refused = await send();
      expect(refused.code).toBe(1);
      expect(refused.output).toMatch(/^payment\.review +401 +It answered 401/m);
      expect(refused.errors).toMatch(
        /^1 of 9 were not answered with 2xx\. .* After 401, compare the receiver's secret[^\n]+\n$/,
      );
    } finally {
      await shop.close();
    }
    const away = await cli(['merchants', 'test-event', 'tester'], {
      NODROP_ALLOW_PRIVATE_ORDER_SERVICES: 'true',
    });
    expect(away.output).toMatch(/^refund\.failed +- +It refused the connection \(ECONNREFUSED\)\.$/m);
  });

  test('in live mode `merchants set` accepts an http URL for the order service only if private order services are allowed', async () => {
    const live = { NODROP_MODE: 'live', NODROP_SIMULATOR_SECRET: '' };
    const set = (url: string, change: Record<string, string>) =>
      cli(['merchants', 'set', 'acme', '--order-service-url', url], change);
    expect(await set('http://shop.example/', live)).toEqual({
      code: 1,
      output: '',
      errors: '--order-service-url is wrong: it must be an https URL.\n',
    });
    const near = { ...live, NODROP_ALLOW_PRIVATE_ORDER_SERVICES: 'true' };
    expect((await set('http://shop.internal/', near)).code).toBe(0);
    expect((await set('https://shop.example/', live)).code).toBe(0);
  });

  test.each([
    [['keys', 'create'], /--merchant/],
    [['keys', 'create', '--merchant', 'a b'], /a b/],
    [['keys', 'create', '--merchant', 'a', '--role', 'king'], /king/],
    [['keyz'], /keyz/],
    [['keys', 'revoke'], /id/],
    [['keys', 'revoke', 'key_nobody'], /^There is no key key_nobody\. "keys list" shows the ids\.\n$/],
    [['merchants', 'set', 'acme'], /^Nothing to set\. "merchants set --help" lists the settings\.\n$/],
    [
      ['merchants', 'set', 'acme', '--order-service-url', 'shop'],
      /^--order-service-url is wrong: it is not a URL\.\n$/,
    ],
    [
      ['merchants', 'set', 'acme', '--order-service-url', 'https://me:pass@shop.example/'],
      /^--order-service-url is wrong: it must have no user name or password: events are signed\.\n$/,
    ],
    [
      ['merchants', 'set', 'late', '--order-status-url', 'https://shop.example/{orderId}'],
      /^Merchant late has no order service to read orders back from: give --order-service-url as well\.\n$/,
    ],
    ...['https://shop.example/orders', 'https://{orderId}.shop.example/'].map((url): [string[], RegExp] => [
      ['merchants', 'set', 'acme', '--order-service-url', 'https://shop.example/', '--order-status-url', url],
      /^--order-status-url is wrong: /,
    ]),
    [
      ['merchants', 'set', 'acme', '--no-order-service', '--order-service-url', 'https://shop.example/'],
      /^--no-order-service cannot be combined with an address: leave one of them out\.\n$/,
    ],
    [
      [
        'merchants',
        'set',
        'acme',
        '--no-order-status',
        '--order-status-url',
        'https://shop.example/{orderId}',
      ],
      /^--no-order-status and --order-status-url contradict each other\.\n$/,
    ],
    ...['javascript', 'DATA', 'vbscript', 'file', 'blob', 'about', 'view-source', 'intent', 'mailto'].map(
      (scheme): [string[], RegExp] => [
        ['merchants', 'set', 'acme', '--return-schemes', `myapp,${scheme}`],
        /^--return-schemes is wrong: "[a-z-]+" is never allowed: browsers or operating systems handle it themselves\.\n$/,
      ],
    ),
    ...['my app', 'myapp:', 'myapp://', '1app', 'ä', '', 'a,,b', 'x'.repeat(64)].map(
      (scheme): [string[], RegExp] => [
        ['merchants', 'set', 'acme', '--return-schemes', scheme],
        /^--return-schemes is wrong: ".*" is not a scheme: /,
      ],
    ),
    [
      ['merchants', 'set', 'acme', '--return-schemes', 'https'],
      /"https" is always allowed: leave it out\.\n$/,
    ],
    // People and other commands read these names, so invisible characters are refused.
    ...['a\u202eb', 'a\u2066b', '\u200b', ' '].map((name): [string[], RegExp] => [
      ['keys', 'create', '--merchant', name],
      /Use 1 to 64 of A-Z a-z 0-9 _ \. -/,
    ]),
    [['merchants', 'rotate-secret', 'acme', '--old-valid-hours', '-1'], /Use 0 to 720/],
    [['merchants', 'rotate-secret', 'acme', '--old-valid-hours', '721'], /Use 0 to 720/],
    [
      ['merchants', 'rotate-secret', 'nobody'],
      /^There is no merchant nobody\. "merchants list" shows the merchants\.\n$/,
    ],
    [['keys', 'revoke', ''], /^"" is not a key id\. "keys list" shows the ids\.\n$/],
    [
      ['keys', 'revoke', 'x'.repeat(5000)],
      /^"x{64}" \.\.\. is not a key id\. "keys list" shows the ids\.\n$/,
    ],
    [
      ['merchants', 'set', 'acme', '--order-service-url', `https://shop.example/${'x'.repeat(2048)}`],
      /^--order-service-url is wrong: it must have at most 2048 characters\.\n$/,
    ],
    [['merchants', 'set', 'acme', '--late-payment', 'keep'], /apply, refund, review/],
    [
      ['merchants', 'set', 'nobody', '--late-payment', 'apply'],
      /^There is no merchant nobody\. "merchants list" shows the merchants\.\n$/,
    ],
  ])('the command %j is refused with a reason', async (args, words) => {
    const { code, errors } = await cli(args);
    expect(code).toBe(1);
    expect(errors).toMatch(words);
  });
});
