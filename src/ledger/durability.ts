import { setTimeout as sleep } from 'node:timers/promises';
import type { Config } from '../config.ts';
import type { Logger } from '../log.ts';
import type { LedgerClient } from './client.ts';

/** If a starting process cannot reach the database, it tries again after this time. */
const ASK_AGAIN_MS = 10_000;

interface Replication {
  /** synchronous_standby_names */
  readonly standbys: string;
  /** synchronous_commit */
  readonly commit: string;
}

/**
 * Returns a warning if the database's replication settings allow it to lose commits that it has confirmed. Otherwise
 * returns null. With a standby, a failover loses the commits that the standby has not received yet. Without a standby,
 * restoring a backup loses the commits since the backup.
 */
export function lostCommitsWarning({ standbys, commit }: Replication): string | null {
  if (standbys !== '' && commit !== 'off' && commit !== 'local') return null;
  return (
    `The database does not replicate synchronously (synchronous_standby_names is '${standbys}', ` +
    `synchronous_commit is ${commit}): a failover can lose payments and callbacks that were acknowledged. ` +
    'See "Lost rows" in docs/operations.md.'
  );
}

/** Logs the warning about lost commits in live mode, as soon as the database answers. The function never throws. */
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
