import type { Config } from '../config.ts';
import type { LatePayment } from '../domain/decision.ts';
import { schemeFault } from '../domain/return-scheme.ts';
import type { LedgerClient } from '../ledger/client.ts';
import {
  findMerchants,
  type MerchantSettings,
  type MerchantWithSettings,
  rotateSecret,
  setMerchant,
} from '../ledger/merchants.ts';
import { ORDER_ID, urlFault } from '../order-service/client.ts';
import { CommandError } from './errors.ts';
import { table } from './table.ts';

/** @returns the lines that `merchants list` prints. */
export async function listMerchants(db: LedgerClient, now: Date): Promise<string[]> {
  const merchants = await findMerchants(db, now);
  if (merchants.length === 0) return ['There are no merchants. Create one: keys create --merchant NAME'];
  const rows = merchants.map((merchant) => [
    merchant.id,
    merchant.name,
    merchant.latePayment,
    merchant.channelAccounts.map(({ channel }) => channel).join(', '),
    merchant.orderServiceUrl ?? 'embedded',
    merchant.orderStatusUrl ?? '',
    secretsOf(merchant),
    merchant.returnSchemes.join(', '),
    merchant.createdAt.toISOString(),
  ]);
  const head = ['ID', 'MERCHANT', 'LATE PAYMENT', 'CHANNELS', 'ORDER SERVICE', 'READ BACK AT', 'SECRETS'];
  return table([[...head, 'RETURN SCHEMES', 'CREATED'], ...rows]);
}

/** Shows only the last four characters of each secret. The current secret comes first. */
const secretsOf = ({ signingSecrets }: MerchantWithSettings): string =>
  signingSecrets
    .map(
      ({ hint, expiresAt }) => `...${hint}${expiresAt === null ? '' : ` (until ${expiresAt.toISOString()})`}`,
    )
    .join(', ');

/** The options of `merchants set`. An option `--no-...` sets one of the last three properties to false. */
export interface SetOptions {
  readonly latePayment?: LatePayment;
  readonly orderServiceUrl?: string;
  readonly orderStatusUrl?: string;
  readonly orderService: boolean;
  readonly orderStatus: boolean;
  /** The URL schemes, separated by commas. */
  readonly returnSchemes?: string | false;
}

/**
 * @returns the lines that `merchants set` prints. If there is a new secret, only the last line contains it.
 * @throws CommandError
 */
export async function setMerchantSettings(
  db: LedgerClient,
  name: string,
  options: SetOptions,
  config: Pick<Config, 'secret' | 'orderServices'>,
  now: Date,
): Promise<string[]> {
  const settings = toSettings(options, config);
  // A status URL without a service URL is accepted only if the merchant already has an order service.
  if (typeof settings.orderStatusUrl === 'string' && settings.orderServiceUrl === undefined) {
    const merchant = (await findMerchants(db, now)).find((one) => one.name === name);
    if (merchant?.orderServiceUrl === null) {
      throw new CommandError(
        `Merchant ${name} has no order service to read orders back from: give --order-service-url as well.`,
      );
    }
  }
  const set = await setMerchant(db, name, settings, config.secret, now);
  if (set === null) throw noMerchant(name);
  const { merchant, secret } = set;
  const lines: string[] = [];
  if (settings.latePayment !== undefined) {
    lines.push(`Merchant ${name}: the rule for late payments is now: ${merchant.latePayment}.`);
  }
  if (settings.returnSchemes !== undefined) {
    const apps = settings.returnSchemes.map((scheme) => `, ${scheme}`).join('');
    lines.push(`Merchant ${name}: payers may now return to URLs with http, https${apps}.`);
  }
  if (settings.orderServiceUrl !== undefined || settings.orderStatusUrl !== undefined) {
    lines.push(...orderServiceLines(merchant, secret === null));
  }
  if (secret !== null) lines.push('Its events are signed with this secret. It is shown only now:', secret);
  return lines;
}

function orderServiceLines(merchant: MerchantWithSettings, hasSecret: boolean): string[] {
  const { name, orderServiceUrl, orderStatusUrl } = merchant;
  if (orderServiceUrl === null) {
    return [
      `Merchant ${name}: events go to no order service. Its orders are only in the embedded order service.`,
    ];
  }
  return [
    `Merchant ${name}: events go to ${orderServiceUrl}.`,
    orderStatusUrl === null
      ? 'Its acknowledgements are trusted. With --order-status-url, its orders are read back.'
      : `Its orders are read back at ${orderStatusUrl}.`,
    ...(hasSecret ? [`The events are signed with: ${secretsOf(merchant)}.`] : []),
  ];
}

/** @throws CommandError */
function toSettings(options: SetOptions, config: Pick<Config, 'orderServices'>): MerchantSettings {
  const { latePayment, orderServiceUrl, orderStatusUrl, orderService, orderStatus, returnSchemes } = options;
  if (!orderService && (orderServiceUrl ?? orderStatusUrl) !== undefined) {
    throw new CommandError('--no-order-service cannot be combined with an address: leave one of them out.');
  }
  if (!orderStatus && orderStatusUrl !== undefined) {
    throw new CommandError('--no-order-status and --order-status-url contradict each other.');
  }
  const given: MerchantSettings = {
    ...(latePayment === undefined ? {} : { latePayment }),
    ...(orderServiceUrl === undefined ? {} : { orderServiceUrl }),
    ...(orderStatusUrl === undefined ? {} : { orderStatusUrl }),
    ...(orderService ? {} : { orderServiceUrl: null, orderStatusUrl: null }),
    ...(orderStatus ? {} : { orderStatusUrl: null }),
    ...(returnSchemes === undefined ? {} : { returnSchemes: toSchemes(returnSchemes) }),
  };
  if (Object.keys(given).length === 0) {
    throw new CommandError('Nothing to set. "merchants set --help" lists the settings.');
  }
  if (orderServiceUrl !== undefined) requireUrl('--order-service-url', orderServiceUrl, config);
  if (orderStatusUrl !== undefined) {
    const origins = ['a', 'b'].map((id) => {
      const url = orderStatusUrl.replaceAll(ORDER_ID, id);
      requireUrl('--order-status-url', url, config);
      return new URL(url).origin;
    });
    if (!orderStatusUrl.includes(ORDER_ID) || origins[0] !== origins[1]) {
      throw new CommandError(
        `--order-status-url is wrong: ${ORDER_ID} must be in its path or query, as the place of the order's id.`,
      );
    }
  }
  return given;
}

/** @throws CommandError */
function toSchemes(given: string | false): string[] {
  if (given === false) return [];
  const schemes = [...new Set(given.split(',').map((scheme) => scheme.trim().toLowerCase()))];
  for (const scheme of schemes) {
    const fault = schemeFault(scheme);
    if (fault !== undefined) throw new CommandError(`--return-schemes is wrong: "${scheme}" ${fault}.`);
  }
  return schemes;
}

/**
 * The largest length of a URL. A payment's `returnUrl` has the same limit, because proxies and servers refuse longer
 * URLs.
 */
const URL_AT_MOST = 2048;

/** @throws CommandError */
function requireUrl(option: string, url: string, { orderServices }: Pick<Config, 'orderServices'>): void {
  const fault =
    url.length > URL_AT_MOST ? `must have at most ${URL_AT_MOST} characters` : urlFault(url, orderServices);
  if (fault !== undefined) throw new CommandError(`${option} is wrong: it ${fault}.`);
}

/**
 * @returns the lines that `merchants rotate-secret` prints. Only the last line contains the new secret.
 * @throws CommandError
 */
export async function rotateMerchantSecret(
  db: LedgerClient,
  name: string,
  oldValidHours: number,
  config: Pick<Config, 'secret'>,
  now: Date,
): Promise<string[]> {
  const rotated = await rotateSecret(db, name, oldValidHours * 3_600_000, config.secret, now);
  if (rotated === null) throw noMerchant(name);
  return [
    oldValidHours === 0
      ? `Merchant ${name}: events are no longer signed with older secrets.`
      : `Merchant ${name}: events are also signed with older secrets for at most ${oldValidHours} h more.`,
    'Its events are signed with this secret. It is shown only now:',
    rotated.secret,
  ];
}

/** Returns the error of a command that names a merchant which does not exist. */
export const noMerchant = (name: string) =>
  new CommandError(`There is no merchant ${name}. "merchants list" shows the merchants.`);
