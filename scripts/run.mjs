// node scripts/run.mjs ENTRY [ARGUMENT...]
//
// Runs one of the project's programs, also from a fresh clone. First installs the dependencies and generates the
// database client, if they are missing or stale. Then runs the program in the same process, so that this script need
// not forward signals and exit codes. This script uses only Node itself, because it runs before anything is installed.
import { spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, linkSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath, pathToFileURL } from 'node:url';

const root = join(dirname(fileURLToPath(import.meta.url)), '..');

function fail(sentence) {
  console.error(sentence);
  process.exit(1);
}

function readJson(path) {
  try {
    return JSON.parse(readFileSync(path, 'utf8'));
  } catch {
    return undefined;
  }
}

/**
 * Checks the Node version against `engines` in package.json. `engines` has alternatives of the form ^MAJOR.MINOR or
 * >=MAJOR.MINOR.
 */
function checkNode() {
  const { node } =
    readJson(join(root, 'package.json'))?.engines ??
    fail('package.json cannot be read: check the work tree.');
  const [major, minor] = process.versions.node.split('.').map(Number);
  const fits = node.split('||').some((range) => {
    const [, kind, fromMajor, fromMinor] = /^\s*(\^|>=)(\d+)\.(\d+)/.exec(range) ?? [];
    if (major === Number(fromMajor)) return minor >= Number(fromMinor);
    return kind === '>=' && major > Number(fromMajor);
  });
  if (!fits) fail(`nodrop needs Node ${node} and this is ${process.versions.node}: install one of those.`);
}

/**
 * True if all packages of the lock file are installed. npm writes node_modules/.package-lock.json last, so this file is
 * missing after an interrupted installation. An optional package for another platform may be missing.
 */
function isInstalled() {
  const installed = readJson(join(root, 'node_modules', '.package-lock.json'))?.packages;
  const wanted = readJson(join(root, 'package-lock.json'))?.packages;
  if (wanted === undefined) fail(`${join(root, 'package-lock.json')} cannot be read: check the work tree.`);
  if (installed === undefined) return false;
  return Object.entries(wanted).every(
    ([path, { version, optional }]) =>
      path === '' ||
      (installed[path] === undefined ? optional === true : installed[path].version === version),
  );
}

const schemaFile = join(root, 'prisma', 'schema.prisma');
const generatedDir = join(root, 'src', 'generated');
const generatedStamp = join(generatedDir, 'prisma.sha256');

/** Hash of the inputs of the generated client: the schema and Prisma's version. */
function schemaHash() {
  const version = readJson(join(root, 'node_modules', 'prisma', 'package.json'))?.version;
  return createHash('sha256').update(readFileSync(schemaFile)).update(String(version)).digest('hex');
}

function isGenerated() {
  if (!existsSync(schemaFile)) return true;
  return existsSync(generatedStamp) && readFileSync(generatedStamp, 'utf8') === schemaHash();
}

const SAY_EVERY_MS = 10_000;

/** Runs a command and prints its elapsed time every 10 s. The command's output is shown only if it fails. */
function run(command, args, { what, env = {}, fix }) {
  return new Promise((done) => {
    const started = Date.now();
    console.error(`${what} ...`);
    const child = spawn(command, args, {
      cwd: root,
      env: { ...process.env, ...env },
      stdio: ['ignore', 'pipe', 'pipe'],
      shell: process.platform === 'win32' && command === 'npm',
    });
    const timer = setInterval(() => {
      console.error(`  ${what}: ${Math.round((Date.now() - started) / 1000)} s`);
    }, SAY_EVERY_MS);
    const stop = (signal) => {
      child.kill(signal);
      process.exit(1);
    };
    process.once('SIGTERM', stop).once('SIGINT', stop);
    let output = '';
    child.stdout.on('data', (data) => (output += data));
    child.stderr.on('data', (data) => (output += data));
    child.on('error', (error) => fail(`${command} cannot be run (${error.message}): ${fix}`));
    child.on('close', (code) => {
      clearInterval(timer);
      process.off('SIGTERM', stop).off('SIGINT', stop);
      if (code !== 0)
        fail(`${firstErrors(output)}\n${command} ${args[0]} failed with exit code ${code}: ${fix}`);
      done();
    });
  });
}

/** Returns the first lines of an output, because npm prints the cause of a failure first and long advice after it. */
function firstErrors(output) {
  const lines = output.split('\n').filter((line) => line.trim() !== '' && !line.startsWith('npm warn'));
  return lines.slice(0, 15).join('\n');
}

async function install() {
  await run('npm', ['ci', '--include=dev', '--ignore-scripts', '--no-audit', '--no-fund'], {
    what: 'Installing the dependencies (npm ci)',
    fix: 'check that npm reaches its registry and the disk has room, then run the command again.',
  });
}

async function generate() {
  const hash = schemaHash();
  await run(process.execPath, [join('node_modules', 'prisma', 'build', 'index.js'), 'generate'], {
    what: 'Generating the database client (prisma generate)',
    // The path of any existing file prevents Prisma from downloading its schema engine, which is not needed to generate
    // the client.
    env: {
      PRISMA_SCHEMA_ENGINE_BINARY: process.execPath,
      CHECKPOINT_DISABLE: '1',
      PRISMA_HIDE_UPDATE_MESSAGE: '1',
    },
    fix: 'correct prisma/schema.prisma as reported above.',
  });
  writeFileSync(generatedStamp, hash);
}

function isAlive(pid) {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return error.code === 'EPERM';
  }
}

/**
 * Lets only one process prepare a work tree at a time. If the process that holds the lock has died, another process
 * takes the lock.
 */
async function withLock(work) {
  const lock = join(
    tmpdir(),
    `nodrop-prepare-${createHash('sha256').update(root).digest('hex').slice(0, 16)}`,
  );
  const draft = `${lock}.${process.pid}`;
  for (let waiting = false; ; waiting = true) {
    // Write the pid to a draft file first, and then create the lock as a hard link to it. Creating a link is atomic, so
    // the lock always contains a pid.
    writeFileSync(draft, String(process.pid));
    try {
      linkSync(draft, lock);
      break;
    } catch (error) {
      if (error.code !== 'EEXIST') throw error;
    } finally {
      rmSync(draft, { force: true });
    }
    const holder = readJson(lock);
    if (holder === undefined) continue; // The lock was released in the meantime.
    if (!isAlive(holder)) {
      rmSync(lock, { force: true });
      continue;
    }
    if (!waiting) console.error(`Waiting for process ${holder}, which is preparing this work tree ...`);
    await sleep(200);
  }
  const release = () => rmSync(lock, { force: true });
  process.once('exit', release);
  await work();
  process.off('exit', release);
  release();
}

async function prepare() {
  if (isInstalled() && isGenerated()) return;
  await withLock(async () => {
    if (!isInstalled()) await install();
    if (!isGenerated()) {
      mkdirSync(generatedDir, { recursive: true });
      await generate();
    }
  });
}

checkNode();
const [entry, ...args] = process.argv.slice(2);
if (entry === undefined) fail('Usage: node scripts/run.mjs ENTRY [ARGUMENT...]');
await prepare();
const program = resolve(root, entry);
if (!existsSync(program)) fail(`${program} does not exist: check the script's name.`);
process.argv = [process.execPath, program, ...args];
if (program.endsWith('.ts')) await import('tsx');
await import(pathToFileURL(program).href);
