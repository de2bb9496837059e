import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { basename } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';

/** Identifies a process by its pid and its start time. The pid is not enough, because the system reuses pids. */
export interface ProcessIdentity {
  readonly pid: number;
  /** The start time, in a format of the operating system. It is only compared for equality. */
  readonly startedAt: string;
}

/**
 * Returns the identity of a live process, or undefined when there is no such process. A zombie process is not alive.
 */
export function identify(pid: number): ProcessIdentity | undefined {
  const startedAt = process.platform === 'linux' ? linuxStartTime(pid) : psStartTime(pid);
  return startedAt === undefined ? undefined : { pid, startedAt };
}

/** True while the process with this pid and this start time is alive. */
export function isAlive(identity: ProcessIdentity): boolean {
  return identify(identity.pid)?.startedAt === identity.startedAt;
}

/** The name of a live process's program, without its folder. */
export function programOf(pid: number): string | undefined {
  try {
    if (process.platform === 'linux') return readFileSync(`/proc/${pid}/comm`, 'utf8').trim();
    return basename(execFileSync('ps', ['-o', 'comm=', '-p', String(pid)], { encoding: 'utf8' }).trim());
  } catch {
    return undefined;
  }
}

/** Sends `signal` to a process and waits until the process has ended. After `patienceMs`, sends SIGKILL. */
export async function stopProcess(identity: ProcessIdentity, signal: NodeJS.Signals, patienceMs: number) {
  send(identity, signal);
  const deadline = Date.now() + patienceMs;
  let killed = false;
  while (isAlive(identity)) {
    if (!killed && Date.now() > deadline) {
      killed = true;
      send(identity, 'SIGKILL');
    }
    await sleep(25);
  }
}

function send(identity: ProcessIdentity, signal: NodeJS.Signals) {
  if (!isAlive(identity)) return;
  try {
    process.kill(identity.pid, signal);
  } catch (error) {
    // The error ESRCH means that the process ended between the check and the signal.
    if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error;
  }
}

function linuxStartTime(pid: number): string | undefined {
  try {
    // Format: "pid (name) state ... starttime ...". The name may contain any character, so parse after the last ")".
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
    return fields[0] === 'Z' ? undefined : fields[19];
  } catch {
    return undefined;
  }
}

function psStartTime(pid: number): string | undefined {
  try {
    return execFileSync('ps', ['-o', 'lstart=', '-p', String(pid)], { encoding: 'utf8' }).trim() || undefined;
  } catch {
    return undefined;
  }
}
