import { readdirSync, readFileSync } from 'node:fs';

/** CPU time and memory of processes, read from Linux's /proc. */

/** Linux reports CPU times in hundredths of a second. */
const MS_A_TICK = 10;
const KIB_A_MIB = 1024;

interface Stat {
  readonly parent: number;
  /** CPU ticks of the process itself. `endedChildrenTicks` are the ticks of its children that have ended. */
  readonly ownTicks: number;
  readonly endedChildrenTicks: number;
}

/** Reads a process's CPU ticks; undefined when there is no such process. */
function statOf(pid: number): Stat | undefined {
  try {
    // Format: "pid (name) state ppid ...". The name may contain any character, so parse after the last ")".
    const text = readFileSync(`/proc/${pid}/stat`, 'utf8');
    const fields = text
      .slice(text.lastIndexOf(')') + 2)
      .split(' ')
      .map(Number);
    const [parent = 0, user = 0, system = 0, childrenUser = 0, childrenSystem = 0] = [1, 11, 12, 13, 14].map(
      (index) => fields[index] ?? 0,
    );
    return { parent, ownTicks: user + system, endedChildrenTicks: childrenUser + childrenSystem };
  } catch {
    return undefined;
  }
}

/** Total CPU time in ms that the process and all its descendants have used. */
function cpuOf(pid: number, all: ReadonlyMap<number, Stat>): number {
  const stat = all.get(pid);
  if (stat === undefined) return 0;
  const children = [...all].filter(([, { parent }]) => parent === pid).map(([child]) => cpuOf(child, all));
  return (
    (stat.ownTicks + stat.endedChildrenTicks) * MS_A_TICK + children.reduce((sum, child) => sum + child, 0)
  );
}

/** Total CPU time in ms of each process with its descendants. */
export function cpuByPart<Part extends string>(pids: Readonly<Record<Part, number>>): Record<Part, number> {
  const all = new Map<number, Stat>();
  for (const name of readdirSync('/proc')) {
    const stat = /^\d+$/.test(name) ? statOf(Number(name)) : undefined;
    if (stat !== undefined) all.set(Number(name), stat);
  }
  const parts = Object.entries(pids) as [Part, number][];
  return Object.fromEntries(parts.map(([part, pid]) => [part, cpuOf(pid, all)])) as Record<Part, number>;
}

/** Resident memory of a process, in MiB. @throws Error when there is no such process */
export function residentMiB(pid: number): number {
  const kib = /^VmRSS:\s+(\d+) kB/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1];
  return Math.round(Number(kib) / KIB_A_MIB);
}
