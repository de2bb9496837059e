import { afterEach, expect, test } from 'vitest';
import { program } from '../../src/stack/program-spec.ts';

/** What our own programs are started with. */

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

test('a limit of the heap', () => {
  delete process.env.NODE_OPTIONS;
  expect(commandOf()).toContain('--max-old-space-size=768');
});

test("a user's own limit of the heap comes first", () => {
  process.env.NODE_OPTIONS = '--enable-source-maps --max-old-space-size=2048';
  expect(commandOf().filter((argument) => argument.startsWith('--max-old-space-size'))).toEqual([]);
});

const envOf = () => program('worker', 'worker/main.ts', async () => true).env;

test('two malloc arenas', () => {
  delete process.env.MALLOC_ARENA_MAX;
  expect(envOf()).toMatchObject({ MALLOC_ARENA_MAX: '2', PATH: process.env.PATH });
});

test("a user's own number of malloc arenas comes first", () => {
  process.env.MALLOC_ARENA_MAX = '4';
  expect(envOf()).toMatchObject({ MALLOC_ARENA_MAX: '4' });
});
