import { setTimeout as sleep } from 'node:timers/promises';
import type { Config } from '../config.ts';
import type { Logger } from '../log.ts';
import type { LedgerClient } from './client.ts';

/** A database that is away at the start is asked again so often, until it has said. */
const ASK_AGAIN_MS = 10_000;

interface Replication {
  /** synchronous_standby_names */
  readonly standbys: string;
  /** synchronous_commit */
  readonly commit: string;
}

/**
 * A sentence when a database so set can lose commits that it has confirmed, else null: a failover to a standby loses
 * those that the standby had not got, and without a standby a restored backup does.
 */
export function lostCommitsWarning({ standbys, commit }: Replication): string | null {
  if (standbys !== '' && commit !== 'off' && commit !== 'local') return null;
  return (
    `The database does not replicate synchronously (synchronous_standby_names is '${standbys}', ` +
    `synchronous_commit is ${commit}): a failover can lose payments and callbacks that were acknowledged. ` +
    'See "Lost rows" in docs/operations.md.'
  );
}

/** In live mode: logs the warning, if there is one, as soon as the database says. Never fails. */
export async function warnOfLostCommits(
  { mode }: Pick<Config, 'mode'>,
  db: LedgerClient,
  log: Pick<Logger, 'warn'>,
  signal: AbortSignal,
): Promise<void> {
  if (mode !== 'live') return;
  while (!signal.aborted) {
    try {
      const [replication] = await db.$queryRaw<Replication[]>`
        SELECT current_setting('synchronous_standby_names') AS standbys,
          current_setting('synchronous_commit') AS commit`;
      const warning = replication === undefined ? null : lostCommitsWarning(replication);
      if (warning !== null) log.warn(warning);
      return;
    } catch {
      await sleep(ASK_AGAIN_MS, undefined, { signal, ref: false }).catch(() => undefined);
    }
  }
}
