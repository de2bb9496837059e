import type { Config } from '../config.ts';
import { loadStackConfig } from './embedded-secrets.ts';
import { exitWith } from './errors.ts';
import { Supervisor } from './supervisor.ts';

/**
 * Runs a supervisor of other programs in the foreground. The supervisor claims the data folder and starts the programs.
 * On SIGTERM, SIGINT or SIGHUP it stops the programs in order and exits with 0.
 */
export async function runForeground(start: (supervisor: Supervisor, config: Config) => Promise<void>) {
  let supervisor: Supervisor | undefined;
  try {
    const config = loadStackConfig();
    supervisor = await Supervisor.claim(config.home);
    stopOnSignals(supervisor);
    await start(supervisor, config);
  } catch (error) {
    await supervisor?.stop();
    exitWith(error);
  }
}

function stopOnSignals(supervisor: Supervisor) {
  let stopping = false;
  const stop = async () => {
    // When a person presses Ctrl-C, npm and the terminal may both send the signal. So the process may receive it twice.
    if (stopping) return;
    stopping = true;
    await supervisor.stop();
    console.log('Stopped.');
    process.exit(0);
  };
  for (const signal of ['SIGTERM', 'SIGINT', 'SIGHUP'] as const) process.on(signal, stop);
}
