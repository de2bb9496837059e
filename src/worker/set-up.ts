import type { Client, Connection } from '@temporalio/client';
import { SWEEP_SCHEDULE_ID } from '../domain/names.ts';
import type { Logger } from '../log.ts';
import { ensureSearchAttributes } from '../temporal/search-attributes.ts';
import { readSweepStatus, type SweepState } from '../temporal/sweep-status.ts';
import { ensureSchedules } from './schedules.ts';

const DEADLINE_MS = 20_000;

const TROUBLE: Readonly<Record<Exclude<SweepState, 'active'>, string>> = {
  paused: 'The sweep is paused: what it heals stays as it is until somebody resumes its Schedule.',
  missing: 'The sweep has no Schedule.',
  failing: 'The last sweep could not heal everything; the result of its workflow says why.',
  overdue: 'No sweep has completed for some minutes though its Schedule is active.',
};

/**
 * Creates what Temporal must have, or brings it up to date, and logs a warning when the sweep does not run.
 * @throws when Temporal cannot be asked.
 */
export async function checkSetUp(
  client: Client,
  connection: Connection,
  log: Pick<Logger, 'info' | 'warn'>,
  now: Date,
): Promise<void> {
  await client.withDeadline(Date.now() + DEADLINE_MS, async () => {
    await ensureSearchAttributes(connection, client.options.namespace);
    const made = await ensureSchedules(client);
    if (made !== 'unchanged') log.info({ schedule: SWEEP_SCHEDULE_ID }, `The sweep's Schedule was ${made}.`);
    const sweep = await readSweepStatus(client, DEADLINE_MS, now);
    if (sweep.state !== 'active') log.warn({ sweep }, TROUBLE[sweep.state]);
  });
}
