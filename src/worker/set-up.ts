import type { Client, Connection } from '@temporalio/client';
import { SWEEP_SCHEDULE_ID } from '../domain/names.ts';
import type { Logger } from '../log.ts';
import { ensureSearchAttributes } from '../temporal/search-attributes.ts';
import { readSweepStatus, type SweepState } from '../temporal/sweep-status.ts';
import { ensureSchedules } from './schedules.ts';

const DEADLINE_MS = 20_000;

const TROUBLE: Readonly<Record<Exclude<SweepState, 'active'>, string>> = {
  paused: 'The sweep is paused: nothing is repaired automatically until its Schedule is resumed.',
  missing: 'The sweep has no Schedule.',
  failing: 'A step of the last sweep failed; the result of the sweep workflow says why.',
  overdue: 'No sweep has completed for 5 min, although its Schedule is active.',
};

/**
 * Creates or updates the search attributes and the sweep's Schedule, and logs a warning if the sweep does not run.
 * @throws if Temporal cannot be reached.
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
