import { readFileSync } from 'node:fs';
import { text as textOf } from 'node:stream/consumers';
import { createChannels, DECLARATIONS } from '../channels/registry.ts';
import type { Config } from '../config.ts';
import {
  ACCOUNT_NAME,
  ACCOUNT_NAME_RULE,
  type AccountMode,
  type ChannelDeclaration,
  ChannelError,
  type Credentials,
  FIRST_ACCOUNT,
} from '../domain/channel.ts';
import { DEVELOPMENT_MERCHANT } from '../domain/names.ts';
import { isStorable } from '../domain/text.ts';
import {
  type AccountChange,
  addAccount,
  changeAccount,
  dropOldCredentials,
  type ListedAccount,
  listAccounts,
  rotateCredentials,
} from '../ledger/channel-accounts.ts';
import type { LedgerClient } from '../ledger/client.ts';
import { CredentialsCache } from '../ledger/credentials-cache.ts';
import { smokeTest } from './channels-smoke.ts';
import { CommandError } from './errors.ts';
import { noMerchant } from './merchants.ts';
import { table } from './table.ts';

/**
 * `npm run nodrop -- channels ...`: the commands for accounts at channels. Secret settings are never command-line
 * arguments, and are never printed.
 */

/** Selects an account. */
export interface AccountOptions {
  readonly merchant?: string;
  readonly account?: string;
}

/** The options that name the sources of an account's settings. */
export interface SettingsOptions {
  /** Settings that are not secret, each as `name=value`. */
  readonly set: readonly string[];
  /**
   * The path of a file with settings, or `-` for standard input. The content is lines of `name=value`, or a JSON
   * object.
   */
  readonly file?: string;
}

/** The largest size of a setting's value, in characters. It is larger than any key in PEM format. */
const VALUE_AT_MOST = 16_384;
const FILE_AT_MOST_BYTES = 256 * 1024;
const CHECK_WITHIN_MS = 20_000;
const SAY_AFTER_MS = 2_000;

/** @throws CommandError */
function declarationOf(channel: string, config: Config): ChannelDeclaration {
  const declaration = DECLARATIONS.find(({ name }) => name === channel);
  if (declaration === undefined) {
    throw new CommandError(
      `There is no channel ${channel}. The channels are ${DECLARATIONS.map(({ name }) => name).join(', ')}.`,
    );
  }
  if (config.mode === 'live' && declaration.testOnly)
    throw new CommandError(`NODROP_MODE=live refuses the channel ${channel}, which moves no real money.`);
  return declaration;
}

/**
 * @returns the merchant with the given name. If no name is given, returns the merchant of the development key on the
 * embedded database, and the only merchant on any other database.
 * @throws CommandError
 */
export async function merchantOf(db: LedgerClient, named: string | undefined, config: Config) {
  const name = named ?? (config.embeddedDatabase ? DEVELOPMENT_MERCHANT : undefined);
  if (name !== undefined) {
    const merchant = await db.merchant.findUnique({ where: { name } });
    if (merchant === null) throw noMerchant(name);
    return merchant;
  }
  const [only, ...others] = await db.merchant.findMany({ take: 2, orderBy: { createdAt: 'asc' } });
  if (only === undefined)
    throw new CommandError('There are no merchants. Create one: keys create --merchant NAME');
  if (others.length > 0)
    throw new CommandError('There are several merchants. Select one with --merchant NAME.');
  return only;
}

/**
 * @returns the account with the given name, or the merchant's default account if no name is given
 * @throws CommandError
 */
async function accountOf(
  db: LedgerClient,
  channel: string,
  { merchant: named, account: name }: AccountOptions,
  config: Config,
  now: Date,
): Promise<ListedAccount> {
  const merchant = await merchantOf(db, named, config);
  const here = (await listAccounts(db, now)).filter(
    (one) => one.merchantId === merchant.id && one.channel === channel,
  );
  const account = here.find((one) => (name === undefined ? one.isMerchantDefault : one.name === name));
  if (account !== undefined) return account;
  const which = name === undefined ? 'default account' : `account ${name}`;
  const others = here.length === 0 ? 'it has none' : `it has ${here.map((one) => one.name).join(', ')}`;
  throw new CommandError(`Merchant ${merchant.name} has no ${which} at ${channel}: ${others} there.`);
}

/**
 * Reads settings from a file. Error messages name the file and the line, but never the content, which may be secret.
 * @throws CommandError
 */
function parseFile(text: string, where: string): [string, string][] {
  if (text.trimStart().startsWith('{')) {
    let content: unknown;
    try {
      content = JSON.parse(text);
    } catch {
      throw new CommandError(`${where} begins like JSON, but is not valid JSON.`);
    }
    return Object.entries(content as object).map(([name, value]) => {
      if (typeof value !== 'string') throw new CommandError(`${name} in ${where} must be a text.`);
      return [name, value];
    });
  }
  return text.split(/\r?\n/).flatMap((line, index) => {
    if (line.trim() === '' || line.trimStart().startsWith('#')) return [];
    const [, name, value] = /^\s*([^=\s]+)\s*=\s*(.*?)\s*$/.exec(line) ?? [];
    if (name === undefined || value === undefined)
      throw new CommandError(`Line ${index + 1} of ${where} is not name=value.`);
    return [[name, value] satisfies [string, string]];
  });
}

/** @throws CommandError */
export async function readText(
  file: string,
  atMostBytes = FILE_AT_MOST_BYTES,
): Promise<{ text: string; where: string }> {
  const where = file === '-' ? 'standard input' : file;
  try {
    const text = file === '-' ? await textOf(process.stdin) : readFileSync(file, 'utf8');
    if (Buffer.byteLength(text) > atMostBytes) throw new Error('it is too long');
    return { text, where };
  } catch (error) {
    throw new CommandError(`${where} cannot be read: ${(error as Error).message}.`);
  }
}

/** Reads and validates the given settings. @throws CommandError that names the setting, never its value. */
async function givenSettings(
  { name: channel, settings }: ChannelDeclaration,
  { set, file }: SettingsOptions,
): Promise<Credentials> {
  const given: Record<string, string> = {};
  const take = (name: string, value: string, where: string) => {
    const setting = settings.find((one) => one.name === name);
    if (setting === undefined) {
      const names = settings.map((one) => one.name).join(', ');
      throw new CommandError(
        `${channel} has no setting with a name that ${where} gives. Its settings are ${names}.`,
      );
    }
    if (Object.hasOwn(given, name)) throw new CommandError(`${name} is given twice.`);
    const fault =
      value === '' || value.length > VALUE_AT_MOST || !isStorable(value)
        ? `must be a text of 1 to ${VALUE_AT_MOST} characters`
        : setting.pattern?.[0].test(value) === false
          ? setting.pattern[1]
          : undefined;
    if (fault !== undefined) throw new CommandError(`${name} is wrong: it ${fault}.`);
    given[name] = value;
  };
  for (const pair of set) {
    const at = pair.indexOf('=');
    if (at < 1) throw new CommandError('--set needs name=value.');
    const name = pair.slice(0, at);
    if (settings.some((one) => one.name === name && one.isSecret)) {
      throw new CommandError(
        `${name} is secret, and a shell keeps a history of commands. Put it into a file (--file FILE), or pass it on standard input (--file -). Replace the secret that was just typed: it is in the history.`,
      );
    }
    take(name, pair.slice(at + 1), '--set');
  }
  if (file !== undefined) {
    const { text, where } = await readText(file);
    for (const [name, value] of parseFile(text, where)) take(name, value, where);
  }
  return given;
}

/**
 * @throws CommandError when a required setting is missing, when a setting is given without another setting that it
 * needs, or when the credentials are for another mode (test or live)
 */
function requireWhole(
  declaration: ChannelDeclaration,
  credentials: Credentials,
  config: Config,
): AccountMode {
  const missing = declaration.settings.filter(
    ({ name, isRequired }) => isRequired && !Object.hasOwn(credentials, name),
  );
  if (missing.length > 0) {
    const lines = missing.map(
      ({ name, description, isSecret }) => `  ${name}${isSecret ? ' (secret)' : ''}: ${description}`,
    );
    throw new CommandError(
      `${declaration.name} needs more settings. Pass secret ones in a file (--file FILE) or on standard input (--file -):\n${lines.join('\n')}`,
    );
  }
  for (const { name, needs = [] } of declaration.settings) {
    const lacks = needs.filter((other) => !Object.hasOwn(credentials, other));
    if (Object.hasOwn(credentials, name) && lacks.length > 0)
      throw new CommandError(`${name} needs ${lacks.join(' and ')} as well: give both or neither.`);
  }
  const mode = declaration.testOnly ? 'test' : (declaration.modeOf?.(credentials) ?? config.mode);
  if (mode !== config.mode)
    throw new CommandError(`These are ${mode} credentials, and NODROP_MODE=${config.mode} refuses them.`);
  return mode;
}

const addressOf = ({ channel, id }: { channel: string; id: string }, { api }: Config): string =>
  `${api.publicUrl}/callbacks/${channel}/${id}`;

/** @returns the lines that `channels add` prints. @throws CommandError */
export async function addChannelAccount(
  db: LedgerClient,
  channel: string,
  options: AccountOptions & SettingsOptions & { readonly default?: true },
  config: Config,
  now: Date,
): Promise<string[]> {
  const declaration = declarationOf(channel, config);
  const merchant = await merchantOf(db, options.merchant, config);
  const name = options.account ?? FIRST_ACCOUNT;
  if (!ACCOUNT_NAME.test(name)) throw new CommandError(`--account is wrong: it ${ACCOUNT_NAME_RULE}.`);
  const credentials = await givenSettings(declaration, options);
  const mode = requireWhole(declaration, credentials, config);
  const account = await addAccount(
    db,
    {
      ...{ merchantId: merchant.id, channel, name, mode, credentials },
      isMerchantDefault: options.default === true,
    },
    config.secret,
    now,
  );
  if (account === null) {
    throw new CommandError(
      `Merchant ${merchant.name} already has an account ${name} at ${channel}. To change its credentials: channels rotate. To add another account: --account NAME.`,
    );
  }
  return [
    `Merchant ${merchant.name} has the account ${name} at ${channel} (${account.id}, ${mode}).`,
    account.isMerchantDefault
      ? `Payments by ${channel} that name no account use it.`
      : `Only payments that name it use it: "account": "${name}".`,
    `Callback address: ${addressOf(account, config)}`,
    `To check its credentials: npm run nodrop -- channels check ${channel} --merchant ${merchant.name} --account ${name}`,
  ];
}

/** @returns the lines that `channels list` prints. */
export async function listChannels(db: LedgerClient, config: Config, now: Date): Promise<string[]> {
  const accounts = await listAccounts(db, now);
  if (accounts.length === 0) return ['There are no accounts. Create one: channels add CHANNEL'];
  const head = [
    'MERCHANT',
    'CHANNEL',
    'ACCOUNT',
    'MODE',
    'DEFAULT',
    'CREDENTIALS',
    'STATE',
    'CALLBACK ADDRESS',
  ];
  const rows = accounts.map((account) => [
    account.merchant.name,
    account.channel,
    account.name,
    account.mode,
    account.isMerchantDefault ? 'yes' : 'no',
    account.credentials
      .map(
        ({ hint, expiresAt }) => `${hint}${expiresAt === null ? '' : ` (until ${expiresAt.toISOString()})`}`,
      )
      .join(', ') || 'none',
    account.disabledAt === null ? 'enabled' : `disabled ${account.disabledAt.toISOString()}`,
    addressOf(account, config),
  ]);
  return table([head, ...rows]);
}

/**
 * The options of `channels rotate`. `oldValidHours` says how long the older credentials stay valid. With `dropOld`, the
 * older credentials become invalid immediately. Without these two options, the expiry of the older credentials does not
 * change.
 */
export interface RotateOptions extends AccountOptions, SettingsOptions {
  readonly dropOld?: true;
  readonly oldValidHours?: number;
}

/** @returns the lines that `channels rotate` prints. @throws CommandError */
export async function rotateAccount(
  db: LedgerClient,
  channel: string,
  options: RotateOptions,
  config: Config,
  now: Date,
): Promise<string[]> {
  const declaration = declarationOf(channel, config);
  if (options.dropOld && options.oldValidHours !== undefined)
    throw new CommandError('--drop-old and --old-valid-hours contradict each other.');
  const account = await accountOf(db, channel, options, config, now);
  const who = `Account ${account.name} of merchant ${account.merchant.name} at ${channel}`;
  const given = await givenSettings(declaration, options);
  const { oldValidHours } = options;
  const until = options.dropOld
    ? now
    : oldValidHours === undefined
      ? null
      : new Date(now.getTime() + oldValidHours * 3_600_000);
  if (Object.keys(given).length === 0) {
    if (until === null)
      throw new CommandError(
        'Give new settings with --file or --set, or use --drop-old or --old-valid-hours.',
      );
    const count = await dropOldCredentials(db, account.id, until, now);
    return [`${who}: ${count} older sets of credentials are valid at most until ${until.toISOString()}.`];
  }
  const change = (current: Credentials): Credentials => {
    const credentials = { ...current, ...given };
    // If the stored credentials can no longer be decrypted, `current` is empty. So nodrop cannot compare them with the
    // new credentials.
    const other = declaration.settings.find(
      ({ name, isIdentity }) =>
        isIdentity && Object.keys(current).length > 0 && credentials[name] !== current[name],
    );
    if (other !== undefined)
      throw new CommandError(
        `${who} cannot change its ${other.name}: its payments exist only under the present one. Add another account: channels add ${channel} --account NAME`,
      );
    if (requireWhole(declaration, credentials, config) !== account.mode)
      throw new CommandError(`${who} needs ${account.mode} credentials, and these are for another mode.`);
    return credentials;
  };
  await rotateCredentials(db, account, change, until, config.secret, now);
  return [
    `${who}: every process uses the new credentials for its requests within a minute.`,
    until === null
      ? 'Callbacks that match older credentials stay valid until these are dropped. Once the channel uses the new ones, run channels rotate with --drop-old.'
      : `Callbacks that match older credentials stay valid at most until ${until.toISOString()}.`,
  ];
}

/** @returns the lines that `channels disable` and `channels enable` print. @throws CommandError */
export async function changeChannelAccount(
  db: LedgerClient,
  channel: string,
  options: AccountOptions,
  change: AccountChange,
  config: Config,
  now: Date,
): Promise<string[]> {
  const account = await accountOf(db, channel, options, config, now);
  await changeAccount(db, account, change, now);
  const who = `Account ${account.name} of merchant ${account.merchant.name} at ${channel}`;
  if (change.isEnabled !== false)
    return [`${who} accepts payments.`, ...(change.isMerchantDefault ? ['It is the default.'] : [])];
  return [
    `${who} accepts no new payments. Its existing payments go on: they are still queried, closed and refunded, and their callbacks are accepted.`,
    ...(account.isMerchantDefault
      ? [
          `It is the default account. Until another account becomes the default (channels enable --default), payments by ${channel} must name an account.`,
        ]
      : []),
  ];
}

/**
 * Thrown when `channels check` fails. `exitCode` is 1 if the account does not work, and 2 if the channel could not be
 * reached.
 */
export class CheckFailed extends CommandError {
  readonly exitCode: 1 | 2;

  constructor(message: string, exitCode: 1 | 2) {
    super(message);
    this.exitCode = exitCode;
  }
}

/** Error kinds that do not show whether the account works. */
const UNASKED: ReadonlySet<string> = new Set(['unreachable', 'garbage', 'rate_limited']);

/**
 * @param say called with a line every SAY_AFTER_MS until the channel answers
 * @returns the lines that `channels check` prints
 * @throws CheckFailed
 */
export async function checkChannelAccount(
  db: LedgerClient,
  channel: string,
  options: AccountOptions,
  config: Config,
  now: Date,
  say: (line: string) => void,
): Promise<string[]> {
  declarationOf(channel, config);
  const { id, merchantId, name, merchant } = await accountOf(db, channel, options, config, now);
  const who = `Account ${name} of merchant ${merchant.name} at ${channel}`;
  const adapter = createChannels(config, new CredentialsCache(db, config.secret)).get(channel);
  const waiting = setInterval(() => say(`Waiting for ${channel} ...`), SAY_AFTER_MS);
  try {
    const account = { id, merchantId, channel, credentials: [] };
    await adapter?.checkAccount(account, AbortSignal.timeout(CHECK_WITHIN_MS));
  } catch (error) {
    if (!(error instanceof ChannelError)) throw error;
    const why = error.message.replace(/\.$/, '');
    throw UNASKED.has(error.kind)
      ? new CheckFailed(
          `${who} could not be checked, because the channel could not be reached: ${why}. Its credentials may be right.`,
          2,
        )
      : new CheckFailed(`${who} does not work: ${why}.`, 1);
  } finally {
    clearInterval(waiting);
  }
  return [`${who} works.`];
}

/**
 * `channels smoke`: creates a trade at the channel, and performs all steps from the payment to the refund.
 * @param say called with a line for each step
 * @throws CommandError when the credentials may move real money, or a step fails
 */
export async function smokeChannelAccount(
  db: LedgerClient,
  channel: string,
  options: AccountOptions,
  config: Config,
  now: Date,
  say: (line: string) => void,
): Promise<string[]> {
  declarationOf(channel, config);
  const { id, merchantId, name, merchant } = await accountOf(db, channel, options, config, now);
  const source = new CredentialsCache(db, config.secret);
  const adapter = createChannels(config, source).get(channel);
  if (adapter === undefined) return [];
  const who = `Account ${name} of merchant ${merchant.name} at ${channel}`;
  try {
    const isPaid = await smokeTest(
      adapter,
      { id, merchantId, channel, credentials: await source.of(id) },
      say,
    );
    return [
      isPaid
        ? `${who} supports everything that nodrop needs.`
        : `${who} can create, query and close trades. Nothing was paid or refunded: test that by hand, with the smallest amount.`,
    ];
  } catch (error) {
    if (!(error instanceof ChannelError)) throw error;
    throw new CommandError(`A request to ${channel} failed: ${error.message}`);
  }
}
