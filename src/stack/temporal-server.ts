import { join } from 'node:path';
import { Connection } from '@temporalio/client';
import { msToTs } from '@temporalio/common/lib/time.js';
import { privateFolder } from '../private-folder.ts';
import { ensureSearchAttributes } from '../temporal/search-attributes.ts';
import { reason, StackError } from './errors.ts';
import { requireFreePort } from './ports.ts';
import type { Supervisor } from './supervisor.ts';

/** How long Temporal keeps the histories of ended workflows. */
const RETENTION = '30 days';

/** The namespace that the embedded server creates when it starts. nodrop uses only this namespace there. */
const NAMESPACE = 'default';

export interface TemporalPorts {
  readonly port: number;
  readonly uiPort: number;
}

/**
 * Starts the embedded Temporal server and its Web UI, with its data in `${home}/temporal`.
 * @param cli path of the `temporal` program.
 * @throws StackError when the server cannot start.
 */
export async function startTemporal(
  supervisor: Supervisor,
  home: string,
  { port, uiPort }: TemporalPorts,
  cli: string,
): Promise<void> {
  const dataDir = join(home, 'temporal');
  await requireFreePort(port, 'Temporal', 'NODROP_TEMPORAL_PORT');
  await requireFreePort(uiPort, "Temporal's Web UI", 'NODROP_TEMPORAL_UI_PORT');
  try {
    privateFolder(dataDir);
  } catch (error) {
    throw new StackError(
      `The data folder ${dataDir} cannot be written (${reason(error)}): make it writable, or set NODROP_HOME to another folder.`,
    );
  }
  const address = `127.0.0.1:${port}`;
  await supervisor.start({
    name: 'temporal',
    command: [
      cli,
      ...['server', 'start-dev', '--ip', '127.0.0.1', '--port', String(port), '--ui-port', String(uiPort)],
      ...['--db-filename', join(dataDir, 'temporal.db'), '--log-level', 'error'],
      // No data are lost if the server is killed (kill -9). If the machine crashes, the latest data may be lost. The
      // sweep repairs this loss.
      ...['--sqlite-pragma', 'journal_mode=wal', '--sqlite-pragma', 'synchronous=normal'],
      // Each queue has one partition. With several partitions, Temporal would divide the queue's rate limit among them,
      // and a low limit would not work.
      ...['--dynamic-config-value', 'matching.numTaskqueueReadPartitions=1'],
      ...['--dynamic-config-value', 'matching.numTaskqueueWritePartitions=1'],
      // With the new matcher, an urgent task has priority over a rate-limited backlog. With the old matcher, the urgent
      // task would wait behind the backlog.
      ...['--dynamic-config-value', 'matching.useNewMatcher=true'],
    ],
    env: withoutTemporalSettings(process.env),
    output: 'log',
    stopSignal: 'SIGTERM',
    probe: () => prepare(address),
    explain: (output) =>
      /disk is full|no space left/i.test(output)
        ? `There is no room for Temporal's data in ${dataDir}: free some space, or set NODROP_HOME to another disk.`
        : undefined,
  });
}

/** Applies the retention and the search attributes. Returns true once the server has accepted them. */
async function prepare(address: string): Promise<boolean> {
  let connection: Connection;
  try {
    connection = await Connection.connect({ address, connectTimeout: 1000 });
  } catch {
    return false;
  }
  try {
    await connection.withDeadline(Date.now() + 5000, async () => {
      await connection.workflowService.updateNamespace({
        namespace: NAMESPACE,
        config: { workflowExecutionRetentionTtl: msToTs(RETENTION) },
      });
      await ensureSearchAttributes(connection, NAMESPACE);
    });
    return true;
  } catch {
    return false;
  } finally {
    await connection.close();
  }
}

/**
 * Removes the user's Temporal settings (profiles, addresses, API keys) from the environment. These settings are not
 * meant for the embedded server.
 */
function withoutTemporalSettings(env: NodeJS.ProcessEnv): NodeJS.ProcessEnv {
  return Object.fromEntries(Object.entries(env).filter(([name]) => !name.startsWith('TEMPORAL_')));
}
