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

/** The lines that `merchants list` prints. */
export async function listMerchants(db: LedgerClient, now: Date): Promise<string[]> {
  const merchants = await findMerchants(db, now);
  if (merchants.length === 0) return ['There are no merchants: keys create --merchant NAME makes one.'];
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

/** The secrets by their last four characters, the current one first. */
const secretsOf = ({ signingSecrets }: MerchantWithSettings): string =>
  signingSecrets
    .map(
      ({ hint, expiresAt }) => `...${hint}${expiresAt === null ? '' : ` (until ${expiresAt.toISOString()})`}`,
    )
    .join(', ');

/** The options of `merchants set`; of the last three, false is what `--no-...` says. */
export interface SetOptions {
  readonly latePayment?: LatePayment;
  readonly orderServiceUrl?: string;
  readonly orderStatusUrl?: string;
  readonly orderService: boolean;
  readonly orderStatus: boolean;
  /** With commas between them. */
  readonly returnSchemes?: string | false;
}

/**
 * The lines that `merchants set` prints; a new secret is the last one, and in no other.
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
  // The status URL alone belongs to an order service that is there.
  if (typeof settings.orderStatusUrl === 'string' && settings.orderServiceUrl === undefined) {
    const merchant = (await findMerchants(db, now)).find((one) => one.name === name);
    if (merchant?.orderServiceUrl === null) {
      throw new CommandError(
        `Merchant ${name} has no order service to read back from: give --order-service-url as well.`,
      );
    }
  }
  const set = await setMerchant(db, name, settings, config.secret, now);
  if (set === null) throw noMerchant(name);
  const { merchant, secret } = set;
  const lines: string[] = [];
  if (settings.latePayment !== undefined) {
    lines.push(`Merchant ${name}: late payments are from now on: ${merchant.latePayment}.`);
  }
  if (settings.returnSchemes !== undefined) {
    const apps = settings.returnSchemes.map((scheme) => `, ${scheme}`).join('');
    lines.push(`Merchant ${name}: payers are sent back to URLs of http, https${apps} from now on.`);
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
    return [`Merchant ${name}: no order service is told; its orders are those of the embedded one alone.`];
  }
  return [
    `Merchant ${name}: events go to ${orderServiceUrl}.`,
    orderStatusUrl === null
      ? 'What it acknowledges is believed: --order-status-url has its orders read back.'
      : `Its orders are read back at ${orderStatusUrl}.`,
    ...(hasSecret ? [`They are signed with: ${secretsOf(merchant)}.`] : []),
  ];
}

/** @throws CommandError */
function toSettings(options: SetOptions, config: Pick<Config, 'orderServices'>): MerchantSettings {
  const { latePayment, orderServiceUrl, orderStatusUrl, orderService, orderStatus, returnSchemes } = options;
  if (!orderService && (orderServiceUrl ?? orderStatusUrl) !== undefined) {
    throw new CommandError('--no-order-service goes with no other address: leave one of them out.');
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
    throw new CommandError('Nothing to set: merchants set --help shows what there is.');
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
        `--order-status-url is wrong: ${ORDER_ID} must stand in its path or query, where the order's id goes.`,
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

/** As of the `returnUrl` of a payment: what is longer, servers on the way refuse. */
const URL_AT_MOST = 2048;

/** @throws CommandError */
function requireUrl(option: string, url: string, { orderServices }: Pick<Config, 'orderServices'>): void {
  const fault =
    url.length > URL_AT_MOST ? `must have at most ${URL_AT_MOST} characters` : urlFault(url, orderServices);
  if (fault !== undefined) throw new CommandError(`${option} is wrong: it ${fault}.`);
}

/**
 * The lines that `merchants rotate-secret` prints; the new secret is the last one, and in no other.
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
      ? `Merchant ${name}: older secrets sign nothing from now on.`
      : `Merchant ${name}: older secrets sign as well for ${oldValidHours} h more at most.`,
    'Its events are signed with this secret. It is shown only now:',
    rotated.secret,
  ];
}

/** The refusal of a command that names no merchant. */
export const noMerchant = (name: string) =>
  new CommandError(`There is no merchant ${name}: merchants list shows them.`);
