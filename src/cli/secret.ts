import { type ConfiguredAccount, FIRST_ACCOUNT } from '../domain/channel.ts';
import { unreadableAccounts } from '../ledger/channel-accounts.ts';
import type { LedgerClient } from '../ledger/client.ts';
import { type OwnSecret, processesOf, replaceSecret } from '../ledger/secret-fingerprint.ts';
import { CommandError } from './errors.ts';

/**
 * @param configured the accounts from the environment. Every process stores the credentials of these accounts again
 * when it starts
 * @param force replaces the secret even while connected processes still use the former secret
 * @returns the lines that `secret replace` prints
 * @throws CommandError if `force` is false and processes with the former secret are connected
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
      `Processes are connected to this database and use its present secret (${running.join(', ')}). Stop them first, or use --force.`,
    );
  const merchants = await replaceSecret(db, own, now);
  const channels = new Set(configured.map(({ channel }) => channel));
  const accounts = (await unreadableAccounts(db, own.secret, now)).filter(
    ({ channel, name }) => !channels.has(channel) || name !== FIRST_ACCOUNT,
  );
  return [
    'From now on this database belongs to the present NODROP_SECRET. A process with another secret does not start.',
    ...(merchants.length === 0
      ? ['Every signing secret can be decrypted with it.']
      : [
          'The signing secrets of these merchants cannot be decrypted with it. Their events wait until each merchant has a new one:',
          ...merchants.map((name) => `  npm run nodrop -- merchants rotate-secret ${name}`),
        ]),
    ...(accounts.length === 0
      ? ['The credentials of every channel account can be decrypted with it.']
      : [
          'The credentials of these channel accounts cannot be decrypted with it. Their payments wait until each account has new ones:',
          ...accounts.map(
            ({ channel, name, merchant }) =>
              `  npm run nodrop -- channels rotate ${channel} --merchant ${merchant.name} --account ${name} --drop-old --file FILE`,
          ),
        ]),
  ];
}
