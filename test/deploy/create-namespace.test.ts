import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterEach, beforeEach, expect, test } from 'vitest';

/** Tests create-namespace.sh with a simulated clock, and with stand-ins for `temporal` and `getent`. */

const script = fileURLToPath(new URL('../../deploy/temporal/create-namespace.sh', import.meta.url));

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'nodrop-namespace-'));
  writeFileSync(join(folder, 'clock'), '1000');
  writeFileSync(join(folder, 'calls'), '');
});
afterEach(() => {
  rmSync(folder, { recursive: true });
});

const spend = (seconds: string) => `echo $(($(cat ${folder}/clock) + ${seconds})) >${folder}/clock`;

function run(programs: { readonly temporal: string; readonly getent: string }) {
  const all = { ...programs, date: `cat ${folder}/clock`, sleep: spend('$1') };
  for (const [name, body] of Object.entries(all)) {
    const note = `echo "${name} $* at $TEMPORAL_ADDRESS" >>${folder}/calls`;
    writeFileSync(join(folder, name), `#!/bin/sh\n${note}\n${body}\n`, { mode: 0o755 });
  }
  const env = {
    PATH: `${folder}:/usr/bin:/bin`,
    TEMPORAL_ADDRESS: 'temporal:7233',
    TEMPORAL_NAMESPACE: 'shop',
    RETENTION: '720h',
  };
  const { status, stdout, stderr } = spawnSync('/bin/sh', [script], { env, encoding: 'utf8' });
  const calls = readFileSync(join(folder, 'calls'), 'utf8').trim().split('\n');
  const of = (name: string) => calls.filter((call) => call.startsWith(name));
  return { status, stdout, stderr, of, seconds: Number(readFileSync(join(folder, 'clock'), 'utf8')) - 1000 };
}

test.each([
  ['10.0.0.5        temporal', '10.0.0.5:7233'],
  ['fd00::5         temporal temporal.nodrop_servers', '[fd00::5]:7233'],
])(
  'the script looks up the host name once, and passes the address from the line "%s" to every tool',
  (line, address) => {
    const { status, stdout, of } = run({ getent: `echo "${line}"`, temporal: '' });
    expect(of('getent')).toEqual(['getent hosts temporal at temporal:7233']);
    expect(of('temporal').map((call) => call.split(' at ')[1])).toEqual([address, address, address]);
    expect(stdout).toBe('The namespace shop is ready.\n');
    expect(status).toBe(0);
  },
);

test('the script gives up after two minutes, even if each attempt is slow', () => {
  const { status, stderr, of, seconds } = run({
    getent: 'echo 10.0.0.5 temporal',
    temporal: `${spend('10')}\necho no answer\nexit 1`,
  });
  expect(of('temporal')).toHaveLength(11);
  // The last attempt begins before the deadline.
  expect(seconds).toBe(10 * 12 + 10);
  expect(stderr).toMatch(
    /^no answer\nTemporal at 10\.0\.0\.5:7233 did not become ready for the namespace: see/,
  );
  expect(status).toBe(1);
});

test('while the server does not answer, the script looks up its address again, even if each look-up takes 20 s', () => {
  const { status, of, seconds } = run({
    getent: `${spend('20')}\n[ $(grep -c ^getent ${folder}/calls) = 1 ] && echo 10.0.0.5 || echo 10.0.0.9`,
    temporal: `case $TEMPORAL_ADDRESS in 10.0.0.9:7233) exit 0 ;; esac\n${spend('10')}\nexit 1`,
  });
  expect(status).toBe(0);
  expect(of('getent')).toHaveLength(2);
  expect(of('temporal').map((call) => call.split(' at ')[1])).toEqual([
    ...Array(3).fill('10.0.0.5:7233'),
    ...Array(3).fill('10.0.0.9:7233'),
  ]);
  expect(seconds).toBeLessThan(120);
});

test('the script looks up a host name that does not exist yet for up to two minutes', () => {
  const { status, of, stderr } = run({ getent: 'exit 2', temporal: '' });
  expect(of('getent')).toHaveLength(61);
  expect(of('temporal')).toEqual([]);
  expect(stderr).toContain('Temporal at temporal:7233 did not become ready');
  expect(status).toBe(1);
});

test('the script creates a missing namespace', () => {
  const { status, of } = run({
    getent: 'echo 10.0.0.5 temporal',
    temporal: `case "$*" in *describe*) exit 1 ;; esac`,
  });
  expect(of('temporal').map((call) => call.split(' at ')[0])).toEqual([
    'temporal operator cluster health',
    'temporal operator namespace describe --namespace shop',
    'temporal operator namespace create --namespace shop --retention 720h',
    'temporal workflow list --namespace shop --limit 1',
  ]);
  expect(status).toBe(0);
});
