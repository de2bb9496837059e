import { afterEach, expect, test } from 'vitest';
import { program } from '../../src/stack/program-spec.ts';

/** Tests the options and the environment with which nodrop starts its programs. */

const before = process.env.MALLOC_ARENA_MAX;
afterEach(() => {
  if (before === undefined) delete process.env.MALLOC_ARENA_MAX;
  else process.env.MALLOC_ARENA_MAX = before;
});

const nodeOptions = process.env.NODE_OPTIONS;
afterEach(() => {
  if (nodeOptions === undefined) delete process.env.NODE_OPTIONS;
  else process.env.NODE_OPTIONS = nodeOptions;
});

const commandOf = () => program('worker', 'worker/main.ts', async () => true).command;

test('a program is started with a heap limit of 768 MiB', () => {
  delete process.env.NODE_OPTIONS;
  expect(commandOf()).toContain('--max-old-space-size=768');
});

test("a heap limit in the user's NODE_OPTIONS takes precedence", () => {
  process.env.NODE_OPTIONS = '--enable-source-maps --max-old-space-size=2048';
  expect(commandOf().filter((argument) => argument.startsWith('--max-old-space-size'))).toEqual([]);
});

const envOf = () => program('worker', 'worker/main.ts', async () => true).env;

test('a program is started with two malloc arenas', () => {
  delete process.env.MALLOC_ARENA_MAX;
  expect(envOf()).toMatchObject({ MALLOC_ARENA_MAX: '2', PATH: process.env.PATH });
});

test('the MALLOC_ARENA_MAX that the user has set takes precedence', () => {
  process.env.MALLOC_ARENA_MAX = '4';
  expect(envOf()).toMatchObject({ MALLOC_ARENA_MAX: '4' });
});
