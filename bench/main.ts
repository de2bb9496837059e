// npm run bench [-- PART...]
//
// Measures what nodrop costs, with real processes and a data folder that is removed at the end. Each part writes
// bench/results/PART.json. docs/performance.md explains the figures.
import { spawnSync } from 'node:child_process';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { availableParallelism, loadavg, totalmem } from 'node:os';
import { fileURLToPath } from 'node:url';
import { Argument, Command } from 'commander';
import { exitWith, StackError } from '../src/stack/errors.ts';
import { counts } from './counts.ts';
import { endAll } from './ending.ts';
import { memory } from './memory.ts';
import { merchants } from './merchants.ts';
import { settlers } from './settlers.ts';
import { throughput } from './throughput.ts';

const PARTS = { counts, throughput, merchants, settlers, memory } as const;
type Part = keyof typeof PARTS;

const INTERRUPTED = 130;
const results = fileURLToPath(new URL('./results/', import.meta.url));
const root = fileURLToPath(new URL('..', import.meta.url));

let leaving = false;
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
  process.on(signal, () => {
    // When a person presses Ctrl-C, npm and the terminal may both send the signal. So the process may receive it twice.
    if (leaving) return;
    leaving = true;
    console.log('Stopping everything ...');
    void endAll().finally(() => process.exit(INTERRUPTED));
  });
}

const command = new Command('npm run bench --')
  .description('Measures what nodrop costs. Without arguments, measures all parts one after the other.')
  .addArgument(new Argument('[parts...]', 'what to measure').choices(Object.keys(PARTS)))
  .action(async (parts: Part[]) => {
    if (process.platform !== 'linux')
      throw new StackError('The bench reads /proc: run it on Linux, or in a container.');
    const chosen = parts.length === 0 ? (Object.keys(PARTS) as Part[]) : [...new Set(parts)];
    for (const part of chosen) await measure(part);
  });

async function measure(part: Part): Promise<void> {
  console.log(`\n${part}:`);
  const machine = machineNow();
  const started = Date.now();
  const figures = await PARTS[part]();
  await endAll();
  const seconds = Math.round((Date.now() - started) / 1000);
  const run = { part, at: new Date(started).toISOString(), commit: commit(), seconds, ...machine };
  mkdirSync(results, { recursive: true });
  writeFileSync(`${results}${part}.json`, `${JSON.stringify({ ...run, figures }, null, 2)}\n`);
  console.log(`Took ${seconds} s; the figures are in bench/results/${part}.json.`);
}

/**
 * Describes the machine, because the figures depend on it. The load is the average of the minute before the part starts
 * its processes.
 */
function machineNow() {
  return {
    cores: availableParallelism(),
    cpu: /^model name\s*: (.*)$/m.exec(readFileSync('/proc/cpuinfo', 'utf8'))?.[1] ?? 'unknown',
    memoryMiB: Math.round(totalmem() / 1024 ** 2),
    node: process.version,
    loadBefore: Number((loadavg()[0] ?? 0).toFixed(1)),
  };
}

/** The commit of the work tree, with a `+` if there are uncommitted changes. */
function commit(): string {
  const git = (...args: string[]) => spawnSync('git', args, { cwd: root, encoding: 'utf8' }).stdout?.trim();
  return `${git('rev-parse', '--short', 'HEAD') ?? 'unknown'}${git('status', '--porcelain', '--', 'src', 'prisma') ? '+' : ''}`;
}

try {
  await command.parseAsync();
  process.exit(0);
} catch (error) {
  if (!leaving) {
    await endAll();
    exitWith(error);
  }
}
