import type { LedgerClient } from '../ledger/client.ts';
import { type OwnSecret, processesOf, replaceSecret } from '../ledger/secret-fingerprint.ts';
import { CommandError } from './errors.ts';

/**
 * The lines that `secret replace` prints.
 * @param force also while processes with the former secret are connected, which would go on writing under it.
 * @throws CommandError while they are, otherwise
 */
export async function replaceNodropSecret(
  db: LedgerClient,
  own: OwnSecret,
  force: boolean,
  now: Date,
): Promise<string[]> {
  const running = force ? [] : await processesOf(db);
  if (running.length > 0)
    throw new CommandError(
      `Processes use this database under its present secret (${running.join(', ')}): stop them first, or say --force.`,
    );
  const merchants = await replaceSecret(db, own, now);
  return [
    'From now on this database is under the present NODROP_SECRET: no process starts with another one.',
    ...(merchants.length === 0
      ? ['Every signing secret can be read under it.']
      : [
          'The signing secrets of these merchants cannot be read under it. Their events wait until each has another one:',
          ...merchants.map((name) => `  npm run nodrop -- merchants rotate-secret ${name}`),
        ]),
  ];
}
