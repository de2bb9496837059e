import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { appendFileSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, onTestFinished, test } from 'vitest';
import { NO_FAULTS } from '../../src/simulator/faults.ts';
import { createSimulatorAdapter } from '../support/simulator-adapter.ts';
import { freePort } from '../support/stack.ts';
import { ACCOUNT, client, newTrade, receiver, SECRETS, start, tempFolder } from './support.ts';

/**
 * Tests the simulator as a process. Everything that the simulator has answered survives kill -9. If it stops or fails,
 * its messages are clear.
 */

/** Starts `main.ts`. Resolves when the process listens or has ended. */
async function launch(home: string, port: number) {
  const child = spawn(process.execPath, ['--import', 'tsx', 'src/simulator/main.ts'], {
    env: {
      PATH: process.env.PATH,
      NODROP_HOME: home,
      DATABASE_URL: 'postgresql://none',
      NODROP_SECRET: 'none'.repeat(8),
      NODROP_SIMULATOR_PORT: String(port),
      NODROP_SIMULATOR_SECRET: SECRETS.simulator,
    },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  onTestFinished(() => {
    child.kill('SIGKILL');
  });
  let errors = '';
  child.stderr.on('data', (chunk: Buffer) => {
    errors += chunk.toString();
  });
  const ended = once(child, 'close');
  await Promise.race([ended, listening(child)]);
  return { child, ended: ended.then(([code]) => ({ code, errors })) };
}

function listening(child: ChildProcess): Promise<void> {
  return new Promise((resolve) => {
    let output = '';
    child.stdout?.on('data', (chunk: Buffer) => {
      output += chunk.toString();
      if (output.includes('simulator listening on http:')) resolve();
    });
  });
}

describe('the process', () => {
  test('after kill -9 the process still has every acknowledged trade, payment and fault, and sends the remaining callbacks', async () => {
    const home = tempFolder();
    const port = await freePort();
    const shop = await receiver();
    const { pay, ledger, setFaults } = client(`http://127.0.0.1:${port}`);
    const adapter = createSimulatorAdapter({
      name: 'simulator',
      baseUrl: `http://127.0.0.1:${port}`,
      secret: SECRETS.simulator,
    });
    const first = await launch(home, port);
    await setFaults({ callback: { delayMs: 3_600_000 }, seed: 42 });
    const trades = Array.from({ length: 40 }, () => newTrade({ notifyUrl: shop.url }));
    const paid: string[] = [];
    let killed: Promise<unknown> | undefined;
    const outcomes = trades.map(async (trade) => {
      await adapter.createTrade(ACCOUNT, trade);
      await pay(trade.outTradeNo);
      paid.push(trade.outTradeNo);
      // The process is killed while other requests are in progress.
      if (paid.length === 10) {
        first.child.kill('SIGKILL');
        killed = first.ended;
      }
    });
    await Promise.allSettled(outcomes);
    await killed;

    const second = await launch(home, port);
    const states = new Map((await ledger()).map((trade) => [trade.outTradeNo, trade.state]));
    for (const outTradeNo of paid) expect(states.get(outTradeNo)).toBe('SUCCESS');
    expect((await setFaults({})).body).toMatchObject({ seed: 42, callback: { delayMs: 3_600_000 } });

    const before = await ledger();
    second.child.kill('SIGKILL');
    await second.ended;
    // Makes all callbacks due, as if the delay had passed.
    const journal = join(home, 'simulator', 'journal.jsonl');
    writeFileSync(journal, readFileSync(journal, 'utf8').replace(/"nextAt":\d+/g, '"nextAt":0'));
    const third = await launch(home, port);
    const facts = (rows: Awaited<ReturnType<typeof ledger>>) =>
      rows.map(({ callbackAttempts: _, ...fact }) => fact);
    expect(facts(await ledger())).toEqual(facts(before));
    const told = await shop.until(paid.length);
    for (const outTradeNo of paid) {
      expect(told.some(({ content }) => content.data.outTradeNo === outTradeNo)).toBe(true);
    }
    third.child.kill('SIGTERM');
    expect(await third.ended).toEqual({ code: 0, errors: '' });
  });

  test('a second process reports in one sentence that its port is taken, and does not change the ledger', async () => {
    const home = tempFolder();
    const { url, adapter, ledger } = await start({ folder: join(home, 'simulator') });
    await adapter.createTrade(ACCOUNT, newTrade());
    const { port } = new URL(url);
    const { ended } = await launch(home, Number(port));
    expect(await ended).toEqual({
      code: 1,
      errors: `Port ${port} on 127.0.0.1 is taken: set NODROP_SIMULATOR_PORT to a free one.\n`,
    });
    expect(await ledger()).toHaveLength(1);
  });
});

describe('journals', () => {
  test('an unfinished last line of a journal is dropped, so that new entries begin on a line of their own', async () => {
    const folder = tempFolder();
    const one = await start({ folder });
    await one.adapter.createTrade(ACCOUNT, newTrade({ subject: 'line\u2028separators' }));
    await one.close();
    appendFileSync(join(folder, 'journal.jsonl'), '{"trade":{"outTr');
    const two = await start({ folder });
    await two.adapter.createTrade(ACCOUNT, newTrade());
    const before = await two.ledger();
    expect(before).toHaveLength(2);
    await two.close();
    const three = await start({ folder });
    expect(await three.ledger()).toEqual(before);
  });

  test('faults that a journal of an older version does not contain are off', async () => {
    const folder = tempFolder();
    const { close: _, ...groups } = NO_FAULTS;
    const faults = { ...groups, close: { errorRate: 0.5 } };
    writeFileSync(join(folder, 'journal.jsonl'), `${JSON.stringify({ faults })}\n`);
    const { setFaults } = await start({ folder });
    expect(await setFaults({ down: true })).toMatchObject({
      status: 200,
      body: { down: true, close: { errorRate: 0.5, ineffectiveRate: 0 } },
    });
  });

  test('the simulator does not start with a damaged journal, so that no payments are forgotten', async () => {
    const folder = tempFolder();
    const path = join(folder, 'journal.jsonl');
    writeFileSync(path, '{"emptied":true}\nnonsense\n{"emptied":true}\n');
    await expect(start({ folder })).rejects.toThrow(`${path} is damaged at byte 17`);
    expect(readFileSync(path, 'utf8')).toContain('nonsense');
  });
});
