import { spawn } from 'node:child_process';

/** `npm run histories`, see test/histories/record.ts. */
spawn('npx', ['vitest', 'run'], {
  stdio: 'inherit',
  env: { ...process.env, NODROP_RECORD_HISTORIES: '1' },
}).on('exit', (code) => {
  process.exitCode = code ?? 1;
});
