import { afterAll, beforeAll, expect, test } from 'vitest';
import { call } from '../simulator/support.ts';
import { eventually } from '../support/stack.ts';
import { type System, startSystem } from '../support/system.ts';

/**
 * Tests adopted trades in the whole service. The merchant's own code has created these trades at the simulator,
 * which sends no callbacks for them.
 */

let system: System;
beforeAll(async () => {
  system = await startSystem({ withWorker: true });
});
afterAll(async () => {
  await system?.stop();
});

let n = 0;

/**
 * Creates a trade as the merchant's own code does, without nodrop.
 * @returns the trade's out-trade-no
 */
async function trade(amount = 1990): Promise<string> {
  const outTradeNo = `SHOP${++n}`;
  const content = {
    ...{ outTradeNo, amount, currency: 'CNY', subject: 'Coffee', returnUrl: 'http://127.0.0.1:9/thanks' },
    // No server listens at this address.
    notifyUrl: 'http://127.0.0.1:9/callbacks',
    expiresAt: new Date(Date.now() + 3_600_000).toISOString(),
  };
  const secret = system.config.simulator.secrets.simulator ?? '';
  const made = await call(system.simulator.url, 'POST', '/v1/trades', JSON.stringify(content), { secret });
  expect(made.status).toBe(201);
  return outTradeNo;
}

// test/workflows/adopt.test.ts tests in virtual time how soon the order is paid.
test('a trade that is adopted while it is unpaid pays its order later, even if its callback is lost', async () => {
  const reference = await trade();
  const order = { id: `adopted-${n}`, amount: 1990, currency: 'CNY' };
  const answer = await eventually(async () => {
    const made = await system.api('POST', '/v1/payments', {
      order,
      channel: 'simulator',
      adopt: { reference },
    });
    return made.status < 300 && made;
  });
  expect(answer.body).toMatchObject({ status: 'paying', adopted: { reference, own: false } });
  await system.simulator.pay(reference);
  await eventually(async () => (await system.orderStatus(order.id)) === 'succeeded');
});

test('adopt --file accepts the same file for a dry run, then for a real run, and then for a repeated run', async () => {
  const [open, paid, other, closed] = [await trade(), await trade(), await trade(1), await trade()];
  await system.simulator.pay(paid);
  await system.simulator.pay(closed, 'declined');
  const at = n;
  const file = [
    'order_id,channel,reference,amount,currency,subject,own',
    `file-${at}-open,simulator,${open},1990,CNY,"Coffee, black",true`,
    `file-${at}-paid,simulator,${paid},1990,CNY,,`,
    `file-${at}-other,simulator,${other},1990,CNY,,`,
    '',
    `file-${at}-unknown,simulator,NOSUCH,1990,CNY,,`,
    `file-${at}-none,simulator,${open},,,,`,
    `file-${at}-closed,simulator,${closed},1990,CNY,,`,
    `file-${at}-bad,simulator,x y,19.90,CNY,,`,
  ].join('\n');
  const count = () => system.db.payment.count({ where: { adopted: { not: null } } });
  const before = await count();

  const dry = await system.nodropGiven(file, 'adopt', '--file', '-', '--dry-run');
  expect(dry.status).toBe(1);
  expect(dry.output).toContain(`line 2: ${open} for order file-${at}-open: would be adopted, unpaid`);
  expect(dry.output).toContain('3 would be adopted, 4 refused. Nothing was written.');
  expect(await count()).toBe(before);

  const done = await system.nodropGiven(file, 'adopt', '--file', '-');
  expect(done.status).toBe(1);
  expect(done.output).toContain(`line 4: ${other} for order file-${at}-other: adopt_mismatch.`);
  expect(done.output).toContain(`line 6: NOSUCH for order file-${at}-unknown: adopt_unknown.`);
  expect(done.output).toContain(`line 7: ${open} for order file-${at}-none: adopt_taken.`);
  expect(done.output).toContain(`line 8: ${closed} for order file-${at}-closed: adopted, failed`);
  expect(done.output).toContain('line 9: amount: must be a whole number');
  expect(done.output).toContain('3 adopted, 4 refused.');
  expect(done.output).toContain('4 lines were not adopted');
  await eventually(async () => (await system.orderStatus(`file-${at}-paid`)) === 'succeeded');
  const [own] = await system.db.payment.findMany({ where: { reference: open } });
  expect(own).toMatchObject({ adopted: 'own', subject: 'Coffee, black' });

  const again = await system.nodropGiven(file, 'adopt', '--file', '-');
  expect(again.output).toContain('0 adopted, 3 already adopted, 4 refused.');
  expect(await count()).toBe(before + 3);
});

test('a dry run of adopt --file names the lines that a real run would refuse', async () => {
  const [twice, other, live] = [await trade(), await trade(), await trade()];
  const at = n;
  const there = { amount: 2990, currency: 'CNY' };
  await system.api('POST', '/v1/orders', { id: `dry-${at}-other`, ...there });
  await system.api('POST', '/v1/payments', {
    order: { id: `dry-${at}-live`, amount: 1990, currency: 'CNY' },
    channel: 'simulator2',
  });
  const file = [
    'order_id,channel,reference,amount,currency',
    `dry-${at}-one,simulator,${twice},1990,CNY`,
    `dry-${at}-two,simulator,${twice},1990,CNY`,
    `dry-${at}-other,simulator,${other},1990,CNY`,
    `dry-${at}-live,simulator,${live},1990,CNY`,
  ].join('\n');
  const dry = await system.nodropGiven(file, 'adopt', '--file', '-', '--dry-run');
  expect(dry.output).toContain(`line 3: ${twice} for order dry-${at}-two: adopt_taken.`);
  expect(dry.output).toContain(`line 4: ${other} for order dry-${at}-other: order_exists.`);
  expect(dry.output).toMatch(
    new RegExp(`line 5: ${live} for order dry-${at}-live: payment \\S+ of the order is live`),
  );
  expect(dry.output).toContain('1 would be adopted, 3 refused. Nothing was written.');
});

test('adopt --file can adopt two trades of one order if the abandoned trade precedes the paid trade in the file', async () => {
  const [abandoned, paid] = [await trade(), await trade()];
  await system.simulator.pay(paid);
  const order = `twice-${n}`;
  const file = [
    'order_id,channel,reference,amount,currency',
    ...[abandoned, paid].map((reference) => `${order},simulator,${reference},1990,CNY`),
  ].join('\n');
  const done = await system.nodropGiven(file, 'adopt', '--file', '-');
  expect([done.status, done.output]).toEqual([0, expect.stringContaining('2 adopted.')]);
  await eventually(async () => (await system.orderStatus(order)) === 'succeeded');
  const [first] = await system.db.payment.findMany({ where: { reference: abandoned } });
  expect(first?.status).toBe('cancelled');
});

test('adopt --file refuses a file with missing or unknown columns before it queries a channel', async () => {
  const missing = await system.nodropGiven('order_id,reference\n1,2', 'adopt', '--file', '-');
  expect([missing.status, missing.output]).toEqual([1, expect.stringContaining('has no column channel')]);
  const unknown = await system.nodropGiven('order_id,channel,reference,x\n', 'adopt', '--file', '-');
  expect(unknown.output).toContain('unknown columns: x');
  const broken = await system.nodropGiven('order_id,channel,reference\na,b\n', 'adopt', '--file', '-');
  expect(broken.output).toMatch(/is not a CSV file with a header line: .*line 2/);
});
