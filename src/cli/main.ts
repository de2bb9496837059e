import { Command, InvalidArgumentError, Option } from 'commander';
import { configuredAccounts } from '../channels/configured.ts';
import { type Config, ConfigError, loadConfig } from '../config.ts';
import { LATE_PAYMENTS } from '../domain/decision.ts';
import { UnreadableSecret } from '../encryption.ts';
import { createLedgerClient, type LedgerClient } from '../ledger/client.ts';
import { databaseFault, isDatabaseUnavailable } from '../ledger/database-errors.ts';
import type { Role } from '../ledger/merchants.ts';
import { notificationsSent } from '../ledger/notify.ts';
import { requireSecret } from '../ledger/secret-fingerprint.ts';
import type { AdoptOptions } from './adopt.ts';
import {
  type AccountOptions,
  addChannelAccount,
  CheckFailed,
  changeChannelAccount,
  checkChannelAccount,
  listChannels,
  type RotateOptions,
  rotateAccount,
  type SettingsOptions,
  smokeChannelAccount,
} from './channels.ts';
import { CommandError } from './errors.ts';
import { createKey, listKeys, revokeKey } from './keys.ts';
import { listMerchants, rotateMerchantSecret, type SetOptions, setMerchantSettings } from './merchants.ts';
import { replaceNodropSecret } from './secret.ts';
import { sendTestEvents } from './test-event.ts';

/** `npm run nodrop -- ...`: the command line for operators. */

function merchantName(value: string): string {
  if (!/^[A-Za-z0-9_.-]{1,64}$/.test(value))
    throw new InvalidArgumentError('Use 1 to 64 of A-Z a-z 0-9 _ . -');
  return value;
}

function hours(value: string): number {
  const count = Number(value);
  if (!/^\d{1,3}$/.test(value) || count > 720) throw new InvalidArgumentError('Use 0 to 720.');
  return count;
}

const config = () => loadConfig();

async function withDatabase(work: (db: LedgerClient) => Promise<readonly string[]>): Promise<void> {
  const db = createLedgerClient(config().databaseUrl, 'nodrop-cli');
  try {
    for (const line of await work(db)) console.log(line);
  } finally {
    await notificationsSent(db);
    await db.$disconnect();
  }
}

/**
 * Refuses to run a command if NODROP_SECRET differs from the database's secret. If the secrets differ, the command may
 * run with the settings of another deployment.
 */
async function withLedger(
  work: (db: LedgerClient, config: Config) => Promise<readonly string[]>,
): Promise<void> {
  await withDatabase(async (db) => {
    const settings = config();
    await requireSecret(db, settings);
    return await work(db, settings);
  });
}

const program = new Command('nodrop').description('Durable payments: administration.').showHelpAfterError();
const keys = program.command('keys').description('API keys of merchants');

keys
  .command('create')
  .description('create a key, and the merchant if it does not exist; the key is printed once')
  .requiredOption('--merchant <name>', 'the merchant that the key belongs to', merchantName)
  .addOption(
    new Option('--role <role>', 'what the key may do').choices(['merchant', 'operator']).default('merchant'),
  )
  .action(async ({ merchant, role }: { merchant: string; role: Role }) => {
    await withLedger((db, settings) =>
      createKey(db, merchant, role, configuredAccounts(settings), settings.secret, new Date()),
    );
  });

keys
  .command('list')
  .description('show all keys by their last four characters')
  .action(async () => withLedger(listKeys));

program
  .command('recover')
  .description('after the Temporal database was lost: start the workflows of everything that has not ended')
  .option('--lost', 'after the nodrop database lost rows: list the workflows whose row is missing')
  .option('--write', 'with --lost: write the missing payment rows again')
  .action(async ({ lost, write }: { lost?: true; write?: true }) => {
    if (write && !lost) throw new CommandError('--write needs --lost.');
    await withLedger(async (db, settings) => {
      // Import these modules only here, because they load the Temporal client, and most commands do not need it.
      if (lost) {
        const { recoverLost } = await import('./recover-lost.ts');
        await recoverLost(db, settings, write === true, console.log);
      } else {
        const { recover } = await import('./recover.ts');
        await recover(db, settings, console.log);
      }
      return [];
    });
  });

program
  .command('adopt')
  .description(
    "adopt trades that the merchant's own code has created, from a file with one trade per line (docs/adopt.md)",
  )
  .requiredOption('--file <path>', "CSV whose first line names the columns; '-' reads standard input")
  .option('--merchant <name>', 'whose trades; the default is as for the channels commands', merchantName)
  .option('--dry-run', 'query the channels, but write nothing')
  .action(async (options: AdoptOptions) =>
    withLedger(async (db, settings) => {
      const { adopt } = await import('./adopt.ts');
      await adopt(db, options, settings, console.log);
      return [];
    }),
  );

keys
  .command('revoke')
  .description('revoke a key from now on')
  .argument('<id>', 'the id of the key, from "keys list"')
  .action(async (id: string) => withLedger((db) => revokeKey(db, id, new Date())));

const merchants = program.command('merchants').description('merchants and their settings');

merchants
  .command('list')
  .description('show all merchants')
  .action(async () => withLedger((db) => listMerchants(db, new Date())));

merchants
  .command('set')
  .description("change a merchant's settings; settings that are left out stay as they are")
  .argument('<name>', 'which merchant', merchantName)
  .addOption(
    new Option(
      '--late-payment <what>',
      'what happens to money that arrives after its payment has ended',
    ).choices(LATE_PAYMENTS),
  )
  .option('--order-service-url <url>', 'where its order service receives signed events')
  .option('--order-status-url <url>', 'where the state of an order is read back; {orderId} stands for its id')
  .option(
    '--return-schemes <schemes>',
    "URL schemes of the merchant's apps that payers may return to, besides http and https: 'myapp,com.example.app'",
  )
  .option('--no-return-schemes', 'let payers return only to http and https URLs')
  .option('--no-order-service', 'send events to no order service: only the embedded order service is used')
  .option('--no-order-status', 'do not read orders back')
  .action(async (name: string, options: SetOptions) =>
    withLedger((db, settings) => setMerchantSettings(db, name, options, settings, new Date())),
  );

merchants
  .command('rotate-secret')
  .description("create a new secret that signs a merchant's events; it is printed once")
  .argument('<name>', 'which merchant', merchantName)
  .option('--old-valid-hours <hours>', 'how long events are signed with the older secrets as well', hours, 24)
  .action(async (name: string, { oldValidHours }: { oldValidHours: number }) =>
    withLedger((db, settings) => rotateMerchantSecret(db, name, oldValidHours, settings, new Date())),
  );

merchants
  .command('test-event')
  .description('send one signed test event of each type to its order service, and show the answers')
  .argument('<name>', 'which merchant', merchantName)
  .action(async (name: string) =>
    withLedger(async (db, settings) => {
      await sendTestEvents(db, name, settings, new Date(), console.log);
      return [];
    }),
  );

const channels = program.command('channels').description('accounts at payment channels');

const collect = (pair: string, pairs: readonly string[] = []) => [...pairs, pair];

/** Adds the argument and options that select one account. */
const ofAccount = (command: Command): Command =>
  command
    .argument('<channel>', 'at which channel')
    .option(
      '--merchant <name>',
      'whose account; the default is the only merchant, or on the embedded database the one of the development key',
      merchantName,
    )
    .option('--account <name>', "the account's name; by default the merchant's default");

const withSettings = (command: Command): Command =>
  command
    .option('--set <name=value>', 'a setting that is not secret; may be repeated', collect, [])
    .option(
      '--file <path>',
      "settings, secret or not: lines of name=value, or a JSON object; '-' reads standard input",
    );

withSettings(ofAccount(channels.command('add')))
  .description('create an account of a merchant; without --account it is named main')
  .option('--default', 'use it for payments that name no account')
  .action(async (channel: string, options: AccountOptions & SettingsOptions & { default?: true }) =>
    withLedger((db, settings) => addChannelAccount(db, channel, options, settings, new Date())),
  );

channels
  .command('list')
  .description('show all accounts, with their callback addresses and without their secrets')
  .action(async () => withLedger((db, settings) => listChannels(db, settings, new Date())));

withSettings(ofAccount(channels.command('rotate')))
  .description('give an account new credentials; settings that are left out stay')
  .option('--drop-old', 'older credentials are no longer valid')
  .option('--old-valid-hours <hours>', 'how long callbacks that match older credentials stay valid', hours)
  .action(async (channel: string, options: RotateOptions) =>
    withLedger((db, settings) => rotateAccount(db, channel, options, settings, new Date())),
  );

ofAccount(channels.command('disable'))
  .description('accept no new payments at an account; existing ones go on')
  .action(async (channel: string, options: AccountOptions) =>
    withLedger((db, settings) =>
      changeChannelAccount(db, channel, options, { isEnabled: false }, settings, new Date()),
    ),
  );

ofAccount(channels.command('enable'))
  .description('accept payments at an account again')
  .option('--default', 'make it the default account as well')
  .action(async (channel: string, options: AccountOptions & { default?: true }) =>
    withLedger((db, settings) => {
      const change = { isEnabled: true, ...(options.default ? { isMerchantDefault: true as const } : {}) };
      return changeChannelAccount(db, channel, options, change, settings, new Date());
    }),
  );

ofAccount(channels.command('check'))
  .description(
    'send the channel a harmless request; exit code 1: the account does not work, 2: the channel could not be reached',
  )
  .action(async (channel: string, options: AccountOptions) =>
    withLedger((db, settings) =>
      checkChannelAccount(db, channel, options, settings, new Date(), console.error),
    ),
  );

ofAccount(channels.command('smoke'))
  .description('create, pay, refund and close a test trade at the channel; only with test credentials')
  .action(async (channel: string, options: AccountOptions) =>
    withLedger((db, settings) =>
      smokeChannelAccount(db, channel, options, settings, new Date(), console.log),
    ),
  );

program
  .command('secret')
  .description('NODROP_SECRET and the database')
  .command('replace')
  .description('make the present NODROP_SECRET the secret of the database; stop every other process first')
  .option('--force', 'also while an API or a worker is connected to the database')
  .action(async ({ force }: { force?: true }) =>
    withDatabase((db) =>
      replaceNodropSecret(db, config(), configuredAccounts(config()), force === true, new Date()),
    ),
  );

try {
  await program.parseAsync();
} catch (error) {
  console.error(explain(error));
  process.exitCode = error instanceof CheckFailed ? error.exitCode : 1;
}

function explain(error: unknown): unknown {
  if ([ConfigError, CommandError, UnreadableSecret].some((kind) => error instanceof kind))
    return (error as Error).message;
  if (!isDatabaseUnavailable(error)) return error;
  const { hostname, port, pathname } = new URL(config().databaseUrl);
  const [name, place] = [pathname.slice(1), `${hostname}:${port || 5432}`];
  switch (databaseFault(error)) {
    case 'missing':
      return `There is no database ${name} at ${place}: create it, or set DATABASE_URL to the right one.`;
    case 'refused':
      return `The database ${name} at ${place} refuses the user or the password in DATABASE_URL.`;
    case 'empty':
      return `The database ${name} at ${place} lacks tables of this release. Migrate it: npm run stack migrates the embedded database, the service migrate any other.`;
    default:
      return `The database ${name} at ${place} cannot be reached: start it (npm run stack), or set DATABASE_URL to the right one.`;
  }
}
