import { readdirSync, rmSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { settings, unusableHome } from '../config.ts';
import { privateFolder } from '../private-folder.ts';
import { freePort } from '../stack/ports.ts';
import { listens } from '../stack/program-spec.ts';

/**
 * The only settings that the demo reads from the user. All other settings have their defaults, so that each run is the
 * same.
 */
const KEPT = ['NODROP_TEMPORAL_CLI', 'NODROP_LOG_LEVEL'];

const PORTS: Readonly<Record<string, number>> = {
  PORT: 3000,
  NODROP_ADMIN_PORT: 3001,
  NODROP_SIMULATOR_PORT: 4000,
  NODROP_POSTGRES_PORT: 54329,
  NODROP_TEMPORAL_PORT: 7233,
  NODROP_TEMPORAL_UI_PORT: 8233,
};

/**
 * Returns the demo's settings. Its data folder is inside the user's data folder, so that the demo never touches the
 * user's data. It always uses the embedded servers. If a default port is in use, for example by `npm start`, the demo
 * uses a free port instead. Ports that the user configures are never replaced.
 */
export async function demoSettings(env: NodeJS.ProcessEnv): Promise<NodeJS.ProcessEnv> {
  const own = Object.fromEntries(
    Object.entries(env).filter(
      ([name]) =>
        KEPT.includes(name) || !(name in settings.shape || name.startsWith('NODROP_QUERY_SCHEDULE_')),
    ),
  );
  const taken = new Set<number>();
  const ports: Record<string, string> = {};
  for (const [name, fallback] of Object.entries(PORTS)) {
    let port = Number(env[name]) || fallback;
    while (!env[name] && (taken.has(port) || (await listens(port)))) port = await freePort();
    taken.add(port);
    ports[name] = String(port);
  }
  return { ...own, ...ports, NODROP_HOME: join(resolve(env.NODROP_HOME || '.nodrop'), 'demo') };
}

/**
 * Deletes the data of the previous demo run. The data of a run are kept until the next run starts.
 * @param home the demo's folder, which the supervisor has claimed; the user's folder is its parent.
 * @throws ConfigError when the user's folder cannot be used.
 */
export function emptyFolder(home: string): void {
  const users = dirname(home);
  try {
    privateFolder(users);
  } catch (error) {
    throw unusableHome(users, error);
  }
  for (const name of ['postgres', 'temporal', 'simulator'])
    rmSync(join(home, name), { recursive: true, force: true });
  for (const name of readdirSync(join(home, 'logs'))) rmSync(join(home, 'logs', name));
}

/**
 * The command that starts the servers again on the demo's data, so that the user can look at the workflows in the Web
 * UI.
 */
export function reopenCommand(env: NodeJS.ProcessEnv): string {
  const ports = Object.entries(PORTS)
    .filter(([name, fallback]) => /POSTGRES|TEMPORAL/.test(name) && env[name] !== String(fallback))
    .map(([name]) => `${name}=${env[name]}`);
  return [`NODROP_HOME=${env.NODROP_HOME}`, ...ports, 'npm run stack'].join(' ');
}
