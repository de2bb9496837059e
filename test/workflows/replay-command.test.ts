// Tests the command `npm run replay -- FILE`.
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { expect, test } from 'vitest';

const root = fileURLToPath(new URL('../..', import.meta.url));
const HISTORY = 'test/histories/2026-11-27/delivery.json';

function replay(...args: string[]) {
  const { status, stdout, stderr } = spawnSync('npm', ['run', '--silent', 'replay', '--', ...args], {
    cwd: root,
    encoding: 'utf8',
  });
  return { status, stdout, stderr };
}

test('a history that matches the code replays', () => {
  expect(replay(HISTORY)).toMatchObject({ status: 0, stdout: `${HISTORY} replays.\n` });
});

test('if a history does not match the code, the command names the first event that differs', () => {
  const folder = mkdtempSync(join(tmpdir(), 'nodrop-replay-'));
  try {
    const file = join(folder, 'history.json');
    const history = readFileSync(join(root, HISTORY), 'utf8');
    const name = /"activityType": ?\{\s*"name": ?"(\w+)"/.exec(history)?.[1] ?? '';
    expect(name).not.toBe('');
    writeFileSync(
      file,
      history
        .replaceAll(`"name": "${name}"`, '"name": "anotherActivity"')
        .replaceAll(`"name":"${name}"`, '"name":"anotherActivity"'),
    );
    const { status, stderr } = replay(file);
    expect([status, stderr]).toEqual([1, expect.stringMatching(/does not replay: .*anotherActivity/s)]);
  } finally {
    rmSync(folder, { recursive: true });
  }
});

test('if no file is given, the command says that the file is missing', () => {
  expect(replay()).toMatchObject({
    status: 1,
    stderr: 'The history file is missing: npm run replay -- FILE\n',
  });
});
