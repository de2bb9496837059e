import { execFile } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { Connection } from '../ledger/connection.ts';
import { reason, StackError } from './errors.ts';
import { identify, programOf } from './os-process.ts';
import { requireFreePort } from './ports.ts';
import { type PostgresBinaries, postgresBinaries } from './postgres-binaries.ts';
import { type PostgresUser, postgresUser } from './postgres-user.ts';
import type { ProcessSpec, Supervisor } from './supervisor.ts';

/** User, password and database of the embedded PostgreSQL, which listens on loopback only. */
const NAME = 'nodrop';

/** Environment that makes PostgreSQL write English messages, because this file matches some of them. */
const environment = (): NodeJS.ProcessEnv => ({ ...process.env, LC_ALL: 'C', LANGUAGE: 'C' });

/**
 * Starts the embedded PostgreSQL with its data in `${home}/postgres`, and creates the cluster and the database if they
 * are missing. The server has PostgreSQL's default durability, so committed rows survive `kill -9` of all processes.
 * @param port the port on 127.0.0.1 to listen on.
 * @throws StackError when the server cannot start.
 */
export async function startPostgres(supervisor: Supervisor, home: string, port: number): Promise<void> {
  const dataDir = join(home, 'postgres');
  const binaries = postgresBinaries();
  const user = postgresUser(dataDir, [binaries.initdb, `${home}/.`]);
  await requireFreePort(port, 'PostgreSQL', 'NODROP_POSTGRES_PORT');
  if (!existsSync(dataDir)) await createCluster(home, dataDir, binaries, user);
  const spec: ProcessSpec = {
    name: 'postgres',
    command: [
      ...user.prefix,
      binaries.postgres,
      ...['-D', dataDir, '-p', String(port)],
      ...['-c', 'listen_addresses=127.0.0.1'],
      // The server makes no socket files. They could clash with another PostgreSQL, and they would limit the length of
      // the path.
      ...['-c', 'unix_socket_directories='],
      ...['-c', 'max_connections=200'],
      // The server uses UTC instead of the machine's time zone, so that psql shows the same times as logs and the API.
      ...['-c', 'timezone=UTC'],
    ],
    ...user.ids,
    cwd: home,
    env: { ...environment(), ...deadPostmaster(dataDir) },
    output: 'log',
    // SIGINT requests a "fast shutdown": the server ends its connections and writes a checkpoint.
    stopSignal: 'SIGINT',
    probe: () => createDatabase(port),
    // PostgreSQL reports this error if it starts soon after the server was killed, while backends of the killed server
    // still use the shared memory.
    transient: /pre-existing shared memory block/,
    explain: (output) => explain(output, dataDir),
  };
  await supervisor.start(spec);
}

/**
 * Makes PostgreSQL ignore the pid that a killed server has left in the data folder. Otherwise PostgreSQL mistakes any
 * process with that pid for the server. After a restart, an unrelated process may have that pid. In a container whose
 * first process does not reap, the process may be a zombie. PostgreSQL ignores the pid of its grandparent process, so
 * this function passes the stale pid as the grandparent's pid. PostgreSQL still checks for surviving backends.
 */
function deadPostmaster(dataDir: string): NodeJS.ProcessEnv {
  const file = join(dataDir, 'postmaster.pid');
  if (!existsSync(file)) return {};
  const pid = Number.parseInt(readFileSync(file, 'utf8'), 10);
  const isServer = identify(pid) !== undefined && programOf(pid) === 'postgres';
  return Number.isInteger(pid) && !isServer ? { PG_GRANDPARENT_PID: String(pid) } : {};
}

/** Creates the cluster in a draft folder and renames it, so that an interrupted start leaves no incomplete cluster. */
async function createCluster(
  home: string,
  dataDir: string,
  { initdb }: PostgresBinaries,
  user: PostgresUser,
) {
  const draft = `${dataDir}.new`;
  const passwordFile = `${dataDir}.password`;
  try {
    // Only an interrupted start can have left this draft, because the supervisor has exclusive use of the data folder.
    rmSync(draft, { recursive: true, force: true });
    mkdirSync(draft, { mode: 0o700 });
    user.own(draft);
    writeFileSync(passwordFile, NAME, { mode: 0o600 });
    user.own(passwordFile);
    const [program = '', ...args] = [
      ...user.prefix,
      initdb,
      ...['-D', draft, '-U', NAME, `--pwfile=${passwordFile}`, '--auth=scram-sha-256'],
      // The cluster uses PostgreSQL's built-in UTF-8 locale, which gives the same sort order on every machine.
      ...['--encoding=UTF8', '--locale=C', '--locale-provider=builtin', '--builtin-locale=C.UTF-8'],
    ];
    await new Promise<void>((resolve, reject) => {
      const options = { ...user.ids, cwd: home, env: environment() };
      execFile(program, args, options, (error, _stdout, stderr) => {
        if (error === null) resolve();
        else
          reject(
            new StackError(explain(stderr, dataDir) ?? `initdb failed (${stderr.trim() || error.message}).`),
          );
      });
    });
    renameSync(draft, dataDir);
  } catch (error) {
    rmSync(draft, { recursive: true, force: true });
    if (error instanceof StackError) throw error;
    throw new StackError(
      `The data folder ${home} cannot be written (${reason(error)}): make it writable, or set NODROP_HOME to another folder.`,
    );
  } finally {
    rmSync(passwordFile, { force: true });
  }
}

/** Creates the database if it is missing. Returns false while the server does not answer yet. */
async function createDatabase(port: number): Promise<boolean> {
  const client = new Connection({
    connectionString: `postgresql://${NAME}:${NAME}@127.0.0.1:${port}/postgres`,
    connectionTimeoutMillis: 5000,
  });
  try {
    await client.connect();
    const { rowCount } = await client.query('select 1 from pg_database where datname = $1', [NAME]);
    if (rowCount === 0) await client.query(`create database ${NAME}`);
    return true;
  } catch {
    return false;
  } finally {
    await client.end().catch(() => {});
  }
}

/** Translates an error output of PostgreSQL or initdb into a sentence with the fix. */
function explain(output: string, dataDir: string): string | undefined {
  if (/No space left on device|Disk quota exceeded/.test(output)) {
    return `There is no room for PostgreSQL's data in ${dataDir}: free some space, or set NODROP_HOME to another disk.`;
  }
  if (/Permission denied|Read-only file system|Operation not permitted/.test(output)) {
    return `PostgreSQL cannot write its data in ${dataDir}: make the folder writable for it, or set NODROP_HOME to another folder.`;
  }
  const other = /Is another postmaster \(PID (\d+)\)/.exec(output);
  if (other !== null)
    return `Another PostgreSQL (process ${other[1]}) uses ${dataDir}: stop it, or set NODROP_HOME to another folder.`;
  if (/database files are incompatible/.test(output)) {
    return `The data in ${dataDir} belongs to another PostgreSQL version: move it away, or set NODROP_HOME to another folder.`;
  }
  const fatal = /(?:FATAL|PANIC|error):\s+(.*)/.exec(output);
  return fatal === null ? undefined : `PostgreSQL did not start (${fatal[1]}): check its data in ${dataDir}.`;
}
