import { spawn } from 'node:child_process';
import { randomBytes, randomUUID } from 'node:crypto';
import { rmSync } from 'node:fs';
import { afterAll, onTestFinished } from 'vitest';
import { sign, signer } from '../../src/channels/simulator/protocol.ts';
import { createLedgerClient } from '../../src/ledger/client.ts';
import { newKey, SECRET } from '../api/support.ts';
import { freshDatabase, temporaryHome } from '../support/stack.ts';

/** Support for the tests of channel accounts. */

export const newSecret = () => `whsec_${randomBytes(32).toString('base64')}`;

export const home = temporaryHome();
afterAll(() => rmSync(home, { recursive: true, force: true }));

/**
 * Creates a database with a merchant that has a key.
 * @returns the database's clients, and `channels`, which runs a command on the database
 */
export async function setUp(simulatorUrl = 'http://127.0.0.1:9') {
  const database = await freshDatabase();
  const db = createLedgerClient(database.url);
  onTestFinished(async () => {
    await db.$disconnect();
    await database.drop();
  });
  const { key, merchantId } = await newKey(db, 'merchant', 'acme');
  /** Collects the outputs and errors of all commands, to search them for secrets. */
  const printed: string[] = [];
  const channels = async (args: readonly string[], input = '', change: Record<string, string> = {}) => {
    const child = spawn(process.execPath, ['--import', 'tsx', 'src/cli/main.ts', ...args], {
      env: {
        PATH: process.env.PATH ?? '',
        DATABASE_URL: database.url,
        TEMPORAL_ADDRESS: '127.0.0.1:9',
        NODROP_HOME: home,
        NODROP_SECRET: SECRET,
        NODROP_SIMULATOR_URL: simulatorUrl,
        NODROP_PUBLIC_URL: 'https://pay.example',
        ...change,
      },
    });
    let output = '';
    let errors = '';
    child.stdout.on('data', (data) => {
      output += data;
    });
    child.stderr.on('data', (data) => {
      errors += data;
    });
    child.stdin.end(input);
    const code = await new Promise<number | null>((resolve) => child.once('close', resolve));
    printed.push(output, errors);
    return { code, output, errors };
  };
  const account = async (name = 'main', channel = 'simulator') =>
    await db.channelAccount.findFirstOrThrow({ where: { merchantId, channel, name } });
  return { database, db, key, merchantId, printed, channels, account };
}

/** Creates a callback of the simulator for a payment that does not exist, and signs it with `secret`. */
export function callbackBy(secret: string) {
  const trade = { outTradeNo: 'pay_nobody', state: 'SUCCESS', amount: 1, currency: 'CNY' };
  const data = { ...trade, transactionId: 'T', paidAt: new Date().toISOString() };
  const raw = JSON.stringify({ type: 'trade.succeeded', data });
  return { raw, headers: sign(signer(secret), `msg_${randomUUID()}`, raw) };
}
