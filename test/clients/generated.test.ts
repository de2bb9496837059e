import { execFile, spawn } from 'node:child_process';
import { cpSync, mkdirSync, mkdtempSync, readdirSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { delimiter, join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { afterAll, beforeAll, expect, onTestFinished, test } from 'vitest';
import { GENERATORS, type Generator, lookUpGenerator } from '../../scripts/generators.ts';
import { type System, startSystem } from '../support/system.ts';
import { toolSettings } from '../support/tool-settings.ts';

/**
 * Tests clients that code generators make from docs/openapi.json. Each client compiles, takes a payment in a running
 * system, and accepts values that only a later API has.
 */

const DOCUMENT = fileURLToPath(new URL('../../docs/openapi.json', import.meta.url));
const PROGRAMS = fileURLToPath(new URL('generated/', import.meta.url));
const { cacheDir } = toolSettings();

let system: System;
let later: Server;
beforeAll(async () => {
  system = await startSystem({ withWorker: true, env: { NODROP_QUERY_SCHEDULE: '2s' } });
  later = await startLaterApi();
});
afterAll(async () => {
  later?.close();
  await system?.stop();
});

/** An API that answers with a status, a reason, a field and a code that the document does not have yet. */
async function startLaterApi() {
  const server = createServer(async (request, response) => {
    const { status, body } = await system.api('GET', String(request.url));
    const added =
      status === 200 ? { status: 'reborn', attention: 'full_moon', mood: 'calm' } : { code: 'not_born' };
    response
      .writeHead(status, { 'content-type': status === 200 ? 'application/json' : 'application/problem+json' })
      .end(JSON.stringify({ ...body, ...added }));
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return server;
}

/**
 * Runs a command until it ends.
 * @throws Error with the command's whole output if the command fails
 */
async function run(command: string, args: readonly string[], options: { cwd: string; env?: object }) {
  const env = { ...process.env, ...options.env };
  await promisify(execFile)(command, args, { ...options, env, maxBuffer: 1 << 26 }).catch((error) => {
    throw new Error(`${command} failed: ${error.stdout}${error.stderr}`);
  });
}

interface Program {
  readonly command: string;
  readonly args: readonly string[];
  readonly env?: object;
}

/**
 * Generates a client into the folder, compiles it together with its program, and returns the command that runs the
 * program.
 */
const MAKE: Readonly<Record<Generator, (folder: string, tools: string) => Promise<Program>>> = {
  async typescript(folder, tools) {
    symlinkSync(join(tools, 'node_modules'), join(folder, 'node_modules'));
    writeFileSync(join(folder, 'package.json'), '{"type":"module"}');
    cpSync(join(PROGRAMS, 'pay.ts'), join(folder, 'pay.ts'));
    const tool = (path: string) => join(folder, 'node_modules', path);
    const node = (...args: string[]) => run(process.execPath, args, { cwd: folder });
    await node(tool('openapi-typescript/bin/cli.js'), DOCUMENT, '-o', 'api.ts');
    const options = ['--strict', '--exactOptionalPropertyTypes', '--noEmit', '--skipLibCheck'];
    const modules = ['--module', 'nodenext', '--target', 'es2023', '--allowImportingTsExtensions'];
    const roots = fileURLToPath(new URL('../../node_modules/@types', import.meta.url));
    const types = ['--typeRoots', roots, '--types', 'node'];
    await node(tool('typescript/bin/tsc'), ...options, ...modules, ...types, 'pay.ts');
    return { command: process.execPath, args: ['--import', 'tsx', join(folder, 'pay.ts')] };
  },

  async python(folder, tools) {
    const env = { PYTHONPATH: [tools, join(folder, 'client')].join(delimiter) };
    writeFileSync(join(folder, 'config.yml'), 'post_hooks: []\n');
    const to = ['--output-path', join(folder, 'client'), '--config', 'config.yml'];
    const generate = ['-m', 'openapi_python_client', 'generate', '--path', DOCUMENT, ...to];
    await run('python3', generate, { cwd: folder, env });
    const program = join(PROGRAMS, 'pay.py');
    await run('python3', ['-m', 'compileall', '-q', 'client'], { cwd: folder, env });
    return { command: 'python3', args: [program], env };
  },

  async java(folder, tools) {
    const jars = readdirSync(tools).map((name) => join(tools, name));
    const isGenerator = (path: string) => path.includes('openapi-generator-cli');
    const kinds = 'apiTests=false,modelTests=false,apiDocs=false,modelDocs=false';
    const options = ['--library', 'native', '--global-property', kinds];
    const generate = ['generate', '-g', 'java', '-i', DOCUMENT, '-o', 'client', ...options];
    await run('java', ['-jar', jars.find(isGenerator) ?? '', ...generate], { cwd: folder });
    const sources = join(folder, 'client', 'src', 'main', 'java');
    const libraries = jars.filter((path) => !isGenerator(path)).join(delimiter);
    mkdirSync(join(folder, 'classes'));
    const compile = ['-nowarn', '-proc:none', '-d', 'classes', '-cp', libraries, '-sourcepath', sources];
    const all = readdirSync(sources, { recursive: true, encoding: 'utf8' })
      .filter((name) => name.endsWith('.java'))
      .map((name) => join(sources, name));
    await run('javac', [...compile, ...all, join(PROGRAMS, 'Pay.java')], { cwd: folder });
    return {
      command: 'java',
      args: ['-cp', [libraries, join(folder, 'classes')].join(delimiter), 'Pay'],
    };
  },
};

/**
 * Returns the lines that the program prints, as they arrive.
 * @throws Error with the program's stderr if the program fails
 */
async function* lines({ command, args, env }: Program) {
  const addresses = [system.apiUrl, `http://127.0.0.1:${(later.address() as AddressInfo).port}`];
  const child = spawn(command, [...args, ...addresses], { env: { ...process.env, ...env } });
  onTestFinished(() => void child.kill('SIGKILL'));
  let complaints = '';
  child.stderr.on('data', (data) => {
    complaints += data;
  });
  const ended = new Promise<number | null>((resolve) => child.once('close', resolve));
  for await (const line of createInterface(child.stdout)) yield JSON.parse(line);
  expect([await ended, complaints]).toEqual([0, expect.any(String)]);
}

for (const generator of GENERATORS) {
  const tools = lookUpGenerator(generator, cacheDir);
  // The test is skipped if the generator's runtime is missing. If the runtime's registry could not be reached, `npm
  // test` has already failed.
  test.skipIf(tools === undefined)(
    `a client in ${generator} compiles, follows a payment to its end, and accepts values of a later API`,
    async () => {
      if (tools === undefined) return;
      const folder = mkdtempSync(join(tmpdir(), 'nodrop-generated-'));
      onTestFinished(() => rmSync(folder, { recursive: true, force: true }));
      const program = await MAKE[generator](folder, tools);
      const said: object[] = [];
      for await (const line of lines(program)) {
        if (line.step === 'created') await system.simulator.pay(line.id);
        said.push(line);
      }
      expect(said).toEqual([
        { step: 'created', id: expect.stringMatching(/^pay_/) },
        { step: 'over', status: 'succeeded' },
        { step: 'refused', code: 'payment_not_found', isKnown: true },
        { step: 'later', status: 'reborn', isKnown: false },
        { step: 'later refused', code: 'not_born', isKnown: false },
      ]);
    },
  );
}
