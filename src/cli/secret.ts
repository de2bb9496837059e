import { type ConfiguredAccount, FIRST_ACCOUNT } from '../domain/channel.ts';
import { unreadableAccounts } from '../ledger/channel-accounts.ts';
import type { LedgerClient } from '../ledger/client.ts';
import { type OwnSecret, processesOf, replaceSecret } from '../ledger/secret-fingerprint.ts';
import { CommandError } from './errors.ts';

/**
 * The lines that `secret replace` prints.
 * @param configured accounts that get their credentials anew when a process starts
 * @param force also while processes with the former secret are connected, which would go on writing under it.
 * @throws CommandError while they are, otherwise
 */
export async function replaceNodropSecret(
  db: LedgerClient,
  own: OwnSecret,
  configured: readonly ConfiguredAccount[],
  force: boolean,
  now: Date,
): Promise<string[]> {
  const running = force ? [] : await processesOf(db);
  if (running.length > 0)
    throw new CommandError(
      `Processes use this database under its present secret (${running.join(', ')}): stop them first, or say --force.`,
    );
  const merchants = await replaceSecret(db, own, now);
  const channels = new Set(configured.map(({ channel }) => channel));
  const accounts = (await unreadableAccounts(db, own.secret, now)).filter(
    ({ channel, name }) => !channels.has(channel) || name !== FIRST_ACCOUNT,
  );
  return [
    'From now on this database is under the present NODROP_SECRET: no process starts with another one.',
    ...(merchants.length === 0
      ? ['Every signing secret can be read under it.']
      : [
          'The signing secrets of these merchants cannot be read under it. Their events wait until each has another one:',
          ...merchants.map((name) => `  npm run nodrop -- merchants rotate-secret ${name}`),
        ]),
    ...(accounts.length === 0
      ? ['The credentials of every channel account can be read under it.']
      : [
          'The credentials of these channel accounts cannot be read under it. Their payments wait until each has others:',
          ...accounts.map(
            ({ channel, name, merchant }) =>
              `  npm run nodrop -- channels rotate ${channel} --merchant ${merchant.name} --account ${name} --drop-old --file FILE`,
          ),
        ]),
  ];
}
