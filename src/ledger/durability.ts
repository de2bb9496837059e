import { setTimeout as sleep } from 'node:timers/promises';
import type { Config } from '../config.ts';
import type { Logger } from '../log.ts';
import type { LedgerClient } from './client.ts';

/** How often a starting process checks again whether an unreachable database answers. */
const ASK_AGAIN_MS = 10_000;

interface Replication {
  /** synchronous_standby_names */
  readonly standbys: string;
  /** synchronous_commit */
  readonly commit: string;
}

/**
 * Returns a warning if the database can lose commits that it has confirmed, because of these settings. Otherwise
 * returns null. A failover to a standby loses the commits that the standby had not received. Without a standby,
 * restoring a backup loses commits.
 */
export function lostCommitsWarning({ standbys, commit }: Replication): string | null {
  if (standbys !== '' && commit !== 'off' && commit !== 'local') return null;
  return (
    `The database does not replicate synchronously (synchronous_standby_names is '${standbys}', ` +
    `synchronous_commit is ${commit}): a failover can lose payments and callbacks that were acknowledged. ` +
    'See "Lost rows" in docs/operations.md.'
  );
}

/** In live mode this function logs the warning as soon as the database answers, if there is a warning. Never throws. */
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
