import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, test } from 'vitest';
import { adopt } from '../../src/cli/adopt.ts';
import { loadConfig } from '../../src/config.ts';
import type { LedgerClient } from '../../src/ledger/client.ts';
import { TooBusy } from '../../src/ledger/transaction-limits.ts';
import { TemporalUnavailable } from '../../src/temporal/payment-workflows.ts';

const folder = mkdtempSync(join(tmpdir(), 'nodrop-adopt-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

// No server listens on port 9.
const CONFIG = loadConfig({
  NODROP_HOME: folder,
  DATABASE_URL: 'postgres://127.0.0.1:9/nodrop',
  NODROP_SECRET: 'a-secret-of-this-test-that-is-long-enough-1234',
  NODROP_SIMULATOR_SECRET: `whsec_${Buffer.alloc(24).toString('base64')}`,
});

test('a temporary failure stops only its own line, an unreachable database ends the run, and the output reports both failures', async () => {
  const file = join(folder, 'refs.csv');
  const lines = [1, 2, 3, 4, 5].map((i) => `order-${i},simulator,SHOP${i},1050,CNY`);
  writeFileSync(file, ['order_id,channel,reference,amount,currency', ...lines].join('\n'));
  const faults = [
    new TooBusy('later'),
    new TemporalUnavailable('no answer'),
    Object.assign(new Error('gone'), { code: 'P1001' }),
  ];
  const db = {
    merchant: { findUnique: async () => ({ id: 'mch_1', name: 'shop' }) },
    channelAccount: {
      findMany: async () => {
        throw faults.shift();
      },
    },
  } as unknown as LedgerClient;
  const said: string[] = [];
  const run = adopt(db, { file, merchant: 'shop', dryRun: true }, CONFIG, (line) => said.push(line));
  await expect(run).rejects.toThrow('gone');
  expect(said.slice(1)).toEqual([
    'line 2: SHOP1 for order order-1: too many requests for this order at once. Run the command again.',
    'line 3: SHOP2 for order order-2: Temporal did not answer in time. Run the command again.',
    'line 4: SHOP3 for order order-3: an error ended the run.',
    '0 would be adopted, 3 refused, 2 not tried. Nothing was written.',
  ]);
});
