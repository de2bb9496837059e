import { existsSync, readFileSync } from 'node:fs';
import { isIP, isIPv6 } from 'node:net';
import { homedir } from 'node:os';
import { join, resolve } from 'node:path';
import { z } from 'zod';
import type { ChannelDeclaration } from './domain/channel.ts';
import { ORDER_UNKNOWN_FOR_MS } from './domain/event.ts';
import { EXPIRY_AT_LEAST_S } from './domain/payment.ts';
import { DEFAULT_QUERY_SCHEDULE, parseSchedule } from './domain/schedule.ts';
import { faultsInWords } from './faults-in-words.ts';

/**
 * All settings of all processes. They are read from the environment once, validated, and passed on as a value.
 * `docs/configuration.md` is generated from the descriptions here (`npm run generate`).
 */

/** Thrown when a setting is wrong or missing. The message is one sentence that names the setting. */
export class ConfigError extends Error {
  override readonly name = 'ConfigError';
}

const PORT_RULE = 'must be a port from 1 to 65535';
const port = (fallback: number) =>
  z
    .string()
    .regex(/^\d{1,5}$/, PORT_RULE)
    .transform(Number)
    .refine((value) => value >= 1 && value <= 65_535, PORT_RULE)
    .prefault(String(fallback));
const httpUrl = z
  .url({ protocol: /^https?$/, error: 'must be an http or https URL' })
  // The URL has no query and no fragment, because paths are appended to it.
  .regex(/^[^?#]*$/, 'must have no ? and no #')
  .transform((url) => url.replace(/\/+$/, ''));
const LOOPBACK = /^(localhost|127(\.\d{1,3}){3}|\[::1\])$/;
/**
 * The URL of a stand-in for a channel. The stand-in must be on this machine, because nodrop sends credentials to it.
 */
const standInUrl = httpUrl.refine(
  (url) => LOOPBACK.test(new URL(url).hostname),
  'must be on this machine: localhost, 127.0.0.1 or [::1]',
);
const webhookSecret = z
  .string()
  .regex(/^whsec_[A-Za-z0-9+/]{32,}={0,2}$/, 'must be whsec_ and at least 24 bytes in base64');
const PROXY_RULE =
  'must be IP addresses, ranges such as 10.0.0.0/8, loopback, linklocal or uniquelocal, separated by commas';
const trustedProxies = z
  .string()
  .transform((text) => text.split(',').map((entry) => entry.trim()))
  .refine((entries) => entries.every(isProxy), PROXY_RULE);
const schedule = z.string().transform((text, context) => {
  try {
    return parseSchedule(text);
  } catch (error) {
    context.addIssue({ code: 'custom', message: (error as Error).message });
    return z.NEVER;
  }
});

/** True for a value that Express's `trust proxy` accepts as a proxy or a range of proxies. */
function isProxy(entry: string): boolean {
  if (['loopback', 'linklocal', 'uniquelocal'].includes(entry)) return true;
  const [, address = '', bits] = /^([\d.:a-f]+)(?:\/(\d{1,3}))?$/i.exec(entry) ?? [];
  const family = isIP(address);
  if (family === 0) return false;
  // A range with /0 contains all addresses, so nodrop would trust every sender.
  return bits === undefined || (Number(bits) >= 1 && Number(bits) <= (family === 4 ? 32 : 128));
}

/** The settings by the names of their environment variables, with descriptions for docs/configuration.md. */
export const settings = z.object({
  NODROP_MODE: z
    .enum(['test', 'live'])
    .default('test')
    .describe('`live` refuses the simulator, the development key and test credentials.'),
  NODROP_HOME: z.string().min(1).default('.nodrop').describe('Where the embedded stack keeps its data.'),
  NODROP_SECRET: z
    .string()
    .min(32, 'must have at least 32 characters')
    .optional()
    .describe(
      'Signs client tokens, and encrypts the secrets that sign events. Required outside the embedded stack, which creates its own. Must be the same for every process, and must not change while the database exists.',
    ),
  DATABASE_URL: z
    .url({ protocol: /^postgres(ql)?$/, error: 'must be postgresql://USER:PASSWORD@HOST:PORT/NAME' })
    .optional()
    .describe(
      "Your own PostgreSQL, directly or through a pooler in session mode. Through a pooler in transaction mode LISTEN does not work, so waiting requests read every 2 s, and the pooler must support prepared statements (PgBouncer from 1.21, with `max_prepared_statements`). Unset: the embedded stack's.",
    ),
  TEMPORAL_ADDRESS: z
    .string()
    .regex(/^[^\s:/]+:\d+$/, 'must be host:port')
    .optional()
    .describe("Your own Temporal server. Unset: the embedded stack's."),
  TEMPORAL_NAMESPACE: z.string().min(1).default('default').describe('The Temporal namespace.'),
  NODROP_TEMPORAL_UI_URL: httpUrl
    .optional()
    .describe("The URL of the Temporal Web UI, for links. Unset: the embedded stack's."),
  PORT: port(3000).describe('The port on which the API listens.'),
  NODROP_HOST: z.string().min(1).default('127.0.0.1').describe('The address the API listens on.'),
  NODROP_PUBLIC_URL: httpUrl
    .optional()
    .describe(
      "The API's URL for channels and payers. Unset: http://NODROP_HOST:PORT. Required if NODROP_HOST is 0.0.0.0 or ::.",
    ),
  NODROP_TEST_PUBLIC_URL: httpUrl
    .optional()
    .describe(
      'Used as NODROP_PUBLIC_URL if that is unset, only in test mode: `docker-compose.yml` sets it from the port that it publishes.',
    ),
  NODROP_TRUSTED_PROXIES: trustedProxies
    .optional()
    .describe(
      'The addresses of the proxies whose `X-Forwarded-For` is trusted, separated by commas. Unset: none, and all callers behind a proxy count as one sender.',
    ),
  NODROP_ADMIN_HOST: z.string().min(1).default('127.0.0.1').describe('The address of the admin listener.'),
  NODROP_ADMIN_PORT: port(3001).describe(
    'The port of the admin listener: metrics and details, for operators only.',
  ),
  NODROP_POSTGRES_PORT: port(54329).describe("The embedded PostgreSQL's port."),
  NODROP_TEMPORAL_PORT: port(7233).describe("The embedded Temporal server's port."),
  NODROP_TEMPORAL_UI_PORT: port(8233).describe("The embedded Temporal Web UI's port."),
  NODROP_TEMPORAL_CLI: z
    .string()
    .min(1)
    .optional()
    .describe('The path of a `temporal` binary for the embedded server. Unset: nodrop finds or obtains one.'),
  NODROP_TEST_SERVER: z
    .string()
    .min(1)
    .optional()
    .describe(
      'The path of a Temporal time-skipping test server (tests only). Unset: nodrop finds or obtains one.',
    ),
  NODROP_SIMULATOR_PORT: port(4000).describe('The port on which the simulator listens.'),
  NODROP_SIMULATOR_HOST: z
    .string()
    .min(1)
    .default('127.0.0.1')
    .describe('The address the simulator listens on.'),
  NODROP_SIMULATOR_URL: httpUrl
    .optional()
    .describe(
      "The simulator's URL for API and worker. Unset: http://NODROP_SIMULATOR_HOST:NODROP_SIMULATOR_PORT.",
    ),
  NODROP_SHOP_PORT: port(3100).describe(
    'The port on which the example shop listens, only on the embedded stack.',
  ),
  NODROP_SIMULATOR_SECRET: webhookSecret
    .optional()
    .describe(
      'Signs requests and callbacks of channel `simulator`. Every start writes it into the accounts named `main` of that channel. Unset outside the embedded stack: nothing is written, and new merchants get no account of that channel.',
    ),
  NODROP_SIMULATOR2_SECRET: webhookSecret
    .optional()
    .describe('Like NODROP_SIMULATOR_SECRET, for channel `simulator2`.'),
  NODROP_STRIPE_URL: standInUrl
    .refine((url) => new URL(url).pathname === '/', 'must have no path')
    .optional()
    .describe(
      'The URL of a stand-in for the Stripe API on this machine (tests only, only in test mode). Unset: https://api.stripe.com.',
    ),
  NODROP_STRIPE_SCRIPT_URL: standInUrl
    .optional()
    .describe(
      'The URL of a stand-in for Stripe.js on this machine (tests only, only in test mode). Unset: https://js.stripe.com/v3/.',
    ),
  NODROP_MOLLIE_URL: standInUrl
    .refine((url) => new URL(url).pathname === '/', 'must have no path')
    .optional()
    .describe(
      'The URL of a stand-in for the Mollie API on this machine (tests only, only in test mode). Unset: https://api.mollie.com.',
    ),
  NODROP_QUERY_SCHEDULE: schedule
    .prefault(DEFAULT_QUERY_SCHEDULE)
    .describe(
      'The waits between queries, for channels that advise no schedule. The last wait is repeated until the expiry. NODROP_QUERY_SCHEDULE_{CHANNEL} sets the schedule of one channel and overrides its advice.',
    ),
  NODROP_ALLOW_PRIVATE_ORDER_SERVICES: z
    .enum(['true', 'false'], 'must be true or false')
    .optional()
    .describe(
      "`true` allows merchants' order services on this machine or in a private network (never link-local), also over http in live mode. Unset: allowed only on the embedded database.",
    ),
  NODROP_PAYMENT_EXPIRY_SECONDS: z.coerce
    .number()
    .int()
    .min(EXPIRY_AT_LEAST_S.test)
    .max(7 * 86_400)
    .default(1800)
    .describe(
      `The time to pay, if a request does not set it. In live mode at least ${EXPIRY_AT_LEAST_S.live}.`,
    ),
  NODROP_ORDER_UNKNOWN_HOURS: z.coerce
    .number()
    .int()
    .min(1)
    .max(720)
    .default(ORDER_UNKNOWN_FOR_MS / 3_600_000)
    .describe(
      'For how many hours an order service may answer `order_unknown` before the order counts as gone and its payment is refunded or waits for a decision. Must be the same for every worker.',
    ),
  NODROP_LOG_LEVEL: z
    .enum(['fatal', 'error', 'warn', 'info', 'debug', 'trace', 'silent'])
    .default('info')
    .describe('The minimum severity of log lines.'),
});

/**
 * Environment variables that begin with NODROP_ but are not settings of nodrop. docker-compose.yml, `npm test` and
 * other tools use them.
 */
const NO_SETTINGS = new Set([
  'NODROP_DB_PASSWORD',
  'NODROP_INSTALL',
  'NODROP_RECORD_HISTORIES',
  'NODROP_MODEL_RUNS',
  'NODROP_MODEL_SEED',
  'NODROP_MODEL_PATH',
  'NODROP_MODEL_REPLAY',
  'NODROP_MODEL_FREEZE',
]);

const CHANNEL_SCHEDULE = /^NODROP_QUERY_SCHEDULE_(\w+)$/;

/**
 * The waits between queries in ms, and their source: the name of a setting, or the page of the channel's documentation.
 */
export interface QuerySchedule {
  readonly waitsMs: readonly number[];
  readonly source: string;
}

export interface Config {
  readonly mode: 'test' | 'live';
  /** Absolute path. */
  readonly home: string;
  /** True if nodrop uses the database of the embedded stack. */
  readonly embeddedDatabase: boolean;
  /** True if nodrop uses the Temporal server of the embedded stack. */
  readonly embeddedTemporal: boolean;
  readonly databaseUrl: string;
  readonly secret: string;
  /** Absolute path of the file with the secret; null if the secret is set in the environment. */
  readonly secretFile: string | null;
  readonly temporal: {
    readonly address: string;
    readonly namespace: string;
    readonly uiUrl: string | undefined;
  };
  readonly api: {
    readonly host: string;
    readonly port: number;
    readonly publicUrl: string;
    /** The trusted proxies in the format of Express's `trust proxy`. */
    readonly trustedProxies: readonly string[];
  };
  readonly admin: { readonly host: string; readonly port: number };
  readonly stack: {
    readonly postgresPort: number;
    readonly temporalPort: number;
    readonly temporalUiPort: number;
    readonly temporalCli: string | undefined;
    readonly testServer: string | undefined;
    /** The folder of downloaded tools, shared by all clones of the repository. */
    readonly cacheDir: string;
  };
  readonly simulator: {
    readonly host: string;
    readonly port: number;
    readonly url: string;
    /** The simulator's signing secrets, by channel name. A channel without a secret is disabled. */
    readonly secrets: Readonly<Record<string, string>>;
  };
  /**
   * URLs of stand-ins for Stripe on this machine, which are only allowed in test mode. If they are absent, nodrop uses
   * Stripe itself.
   */
  readonly stripe: { readonly url?: string; readonly scriptUrl?: string };
  /**
   * URL of a stand-in for Mollie on this machine, which is only allowed in test mode. If it is absent, nodrop uses
   * Mollie itself.
   */
  readonly mollie: { readonly url?: string };
  /** The example shop of the embedded stack. */
  readonly shop: { readonly port: number };
  /** The URLs that an order service may have. */
  readonly orderServices: { readonly allowPrivate: boolean; readonly httpsOnly: boolean };
  /** For how many ms an order service may answer `order_unknown` before nodrop treats the order as lost. */
  readonly orderUnknownForMs: number;
  readonly paymentExpiryMs: number;
  /**
   * Returns the query schedule of a channel. The first of these that exists is used: the channel's own setting, the
   * schedule in the channel's declaration, NODROP_QUERY_SCHEDULE.
   */
  querySchedule(channel: Pick<ChannelDeclaration, 'name' | 'querySchedule'>): QuerySchedule;
  readonly logLevel: string;
}

/** Writes a host as it is written in a URL. An IPv6 address gets brackets. */
export const inUrl = (host: string): string => (isIPv6(host) ? `[${host}]` : host);

/** Reads the settings. Checks each setting, and the combinations of settings. @throws ConfigError */
function readSettings(env: NodeJS.ProcessEnv) {
  // An empty setting is treated as unset, because Compose files and shells turn an unset variable into an empty one.
  const given = Object.fromEntries(
    Object.entries(env).filter(([, value]) => value !== undefined && value !== ''),
  );
  refuseUnknown(Object.keys(given));
  const parsed = settings.safeParse(given, { error: faultsInWords });
  if (!parsed.success) {
    const issue = parsed.error.issues[0];
    throw new ConfigError(`${issue?.path.join('.')} is wrong: ${issue?.message}.`);
  }
  const s = parsed.data;
  const embeddedDatabase = s.DATABASE_URL === undefined;
  const embeddedTemporal = s.TEMPORAL_ADDRESS === undefined;
  if (embeddedDatabase && s.NODROP_MODE === 'live') {
    throw new ConfigError('DATABASE_URL is missing: NODROP_MODE=live does not run on the embedded database.');
  }
  if (embeddedTemporal && s.NODROP_MODE === 'live') {
    throw new ConfigError(
      'TEMPORAL_ADDRESS is missing: NODROP_MODE=live does not run on the embedded Temporal server.',
    );
  }
  if (s.NODROP_PAYMENT_EXPIRY_SECONDS < EXPIRY_AT_LEAST_S[s.NODROP_MODE]) {
    throw new ConfigError(
      `NODROP_PAYMENT_EXPIRY_SECONDS is wrong: NODROP_MODE=live requires ${EXPIRY_AT_LEAST_S.live} or more.`,
    );
  }
  for (const [name, channel] of [
    ['NODROP_STRIPE_URL', 'Stripe'],
    ['NODROP_STRIPE_SCRIPT_URL', 'Stripe'],
    ['NODROP_MOLLIE_URL', 'Mollie'],
  ] as const) {
    if (s[name] !== undefined && s.NODROP_MODE === 'live')
      throw new ConfigError(`${name} is set: NODROP_MODE=live refuses every stand-in for ${channel}.`);
  }
  if (s.PORT === s.NODROP_ADMIN_PORT) {
    throw new ConfigError(
      `NODROP_ADMIN_PORT is wrong: ${s.PORT} is also the value of PORT, and the admin listener needs its own port.`,
    );
  }
  const publicUrl = s.NODROP_PUBLIC_URL ?? (s.NODROP_MODE === 'test' ? s.NODROP_TEST_PUBLIC_URL : undefined);
  if (['0.0.0.0', '::'].includes(s.NODROP_HOST) && publicUrl === undefined) {
    throw new ConfigError(
      `NODROP_PUBLIC_URL is missing: NODROP_HOST=${s.NODROP_HOST} is not an address that channels and payers can reach.`,
    );
  }
  return { given, settings: s, publicUrl, home: resolve(s.NODROP_HOME), embeddedDatabase, embeddedTemporal };
}

/**
 * Returns the folder of the embedded stack's secrets, which may not exist yet. Returns undefined if DATABASE_URL is
 * set.
 * @throws ConfigError naming the setting that is wrong.
 */
export function embeddedHome(env: NodeJS.ProcessEnv = process.env): string | undefined {
  const { home, embeddedDatabase } = readSettings(env);
  return embeddedDatabase ? home : undefined;
}

/**
 * Reads and checks the whole configuration, and writes nothing. The embedded stack's secrets are created when the stack
 * starts (`loadStackConfig`).
 * @throws ConfigError naming the setting that is wrong or missing.
 */
export function loadConfig(env: NodeJS.ProcessEnv = process.env): Config {
  const { given, settings: s, publicUrl, home, embeddedDatabase, embeddedTemporal } = readSettings(env);
  const secrets = embeddedDatabase ? readEmbeddedSecrets(home) : undefined;
  const secret = s.NODROP_SECRET ?? secrets?.secret;
  if (secret === undefined) {
    throw new ConfigError(
      'NODROP_SECRET is missing: outside the embedded stack it must be set (at least 32 characters).',
    );
  }
  const simulator = simulatorOf(s, secrets);
  const schedules = channelSchedules(given);
  const allowPrivate =
    s.NODROP_ALLOW_PRIVATE_ORDER_SERVICES === undefined
      ? embeddedDatabase
      : s.NODROP_ALLOW_PRIVATE_ORDER_SERVICES === 'true';

  return {
    mode: s.NODROP_MODE,
    home,
    embeddedDatabase,
    embeddedTemporal,
    databaseUrl: s.DATABASE_URL ?? `postgresql://nodrop:nodrop@127.0.0.1:${s.NODROP_POSTGRES_PORT}/nodrop`,
    secret,
    secretFile: s.NODROP_SECRET === undefined ? secretsFile(home) : null,
    temporal: {
      address: s.TEMPORAL_ADDRESS ?? `127.0.0.1:${s.NODROP_TEMPORAL_PORT}`,
      namespace: s.TEMPORAL_NAMESPACE,
      uiUrl:
        s.NODROP_TEMPORAL_UI_URL ??
        (embeddedTemporal ? `http://127.0.0.1:${s.NODROP_TEMPORAL_UI_PORT}` : undefined),
    },
    api: {
      host: s.NODROP_HOST,
      port: s.PORT,
      publicUrl: publicUrl ?? `http://${inUrl(s.NODROP_HOST)}:${s.PORT}`,
      trustedProxies: s.NODROP_TRUSTED_PROXIES ?? [],
    },
    admin: { host: s.NODROP_ADMIN_HOST, port: s.NODROP_ADMIN_PORT },
    stack: {
      postgresPort: s.NODROP_POSTGRES_PORT,
      temporalPort: s.NODROP_TEMPORAL_PORT,
      temporalUiPort: s.NODROP_TEMPORAL_UI_PORT,
      temporalCli: s.NODROP_TEMPORAL_CLI,
      testServer: s.NODROP_TEST_SERVER,
      cacheDir: join(env.XDG_CACHE_HOME || join(homedir(), '.cache'), 'nodrop'),
    },
    simulator,
    stripe: {
      ...(s.NODROP_STRIPE_URL === undefined ? {} : { url: s.NODROP_STRIPE_URL }),
      ...(s.NODROP_STRIPE_SCRIPT_URL === undefined ? {} : { scriptUrl: s.NODROP_STRIPE_SCRIPT_URL }),
    },
    mollie: { ...(s.NODROP_MOLLIE_URL === undefined ? {} : { url: s.NODROP_MOLLIE_URL }) },
    shop: { port: s.NODROP_SHOP_PORT },
    orderServices: { allowPrivate, httpsOnly: s.NODROP_MODE === 'live' },
    orderUnknownForMs: s.NODROP_ORDER_UNKNOWN_HOURS * 3_600_000,
    paymentExpiryMs: s.NODROP_PAYMENT_EXPIRY_SECONDS * 1000,
    querySchedule: ({ name, querySchedule }) => {
      const setting = schedules.get(name.toUpperCase());
      if (setting !== undefined)
        return { waitsMs: setting, source: `NODROP_QUERY_SCHEDULE_${name.toUpperCase()}` };
      return querySchedule ?? { waitsMs: s.NODROP_QUERY_SCHEDULE, source: 'NODROP_QUERY_SCHEDULE' };
    },
    logLevel: s.NODROP_LOG_LEVEL,
  };
}

/**
 * Reads the configuration of the simulator's process. If a secret of the simulator is set, the service's secrets may be
 * missing, because a real channel does not have them either.
 * @throws ConfigError naming the setting that is wrong or missing.
 */
export function loadSimulatorConfig(
  env: NodeJS.ProcessEnv = process.env,
): Pick<Config, 'home' | 'simulator' | 'logLevel'> {
  const { settings: s, home, embeddedDatabase } = readSettings(env);
  const given = s.NODROP_SIMULATOR_SECRET ?? s.NODROP_SIMULATOR2_SECRET;
  const isEmbedded = embeddedDatabase && (given === undefined || existsSync(secretsFile(home)));
  const secrets = isEmbedded ? readEmbeddedSecrets(home) : undefined;
  return { home, simulator: simulatorOf(s, secrets), logLevel: s.NODROP_LOG_LEVEL };
}

function simulatorOf(
  s: z.infer<typeof settings>,
  embedded: EmbeddedSecrets | undefined,
): Config['simulator'] {
  const first = s.NODROP_SIMULATOR_SECRET ?? embedded?.simulator;
  const second = s.NODROP_SIMULATOR2_SECRET ?? embedded?.simulator2;
  if (s.NODROP_MODE === 'live' && (first ?? second) !== undefined) {
    const name = first !== undefined ? 'NODROP_SIMULATOR_SECRET' : 'NODROP_SIMULATOR2_SECRET';
    throw new ConfigError(`${name} is set: NODROP_MODE=live refuses the simulator.`);
  }
  return {
    host: s.NODROP_SIMULATOR_HOST,
    port: s.NODROP_SIMULATOR_PORT,
    url: s.NODROP_SIMULATOR_URL ?? `http://${inUrl(s.NODROP_SIMULATOR_HOST)}:${s.NODROP_SIMULATOR_PORT}`,
    secrets: {
      ...(first === undefined ? {} : { simulator: first }),
      ...(second === undefined ? {} : { simulator2: second }),
    },
  };
}

/** Refuses unknown settings. Otherwise, if the name of a setting were misspelt, its default would silently apply. */
function refuseUnknown(names: readonly string[]): void {
  const unknown = names.find(
    (name) =>
      name.startsWith('NODROP_') &&
      !(name in settings.shape) &&
      !CHANNEL_SCHEDULE.test(name) &&
      !NO_SETTINGS.has(name),
  );
  if (unknown !== undefined) {
    throw new ConfigError(`${unknown} is not a setting: docs/configuration.md lists all settings.`);
  }
}

/**
 * Reads the query schedules of single channels. The name of such a setting is `NODROP_QUERY_SCHEDULE_{CHANNEL}`, with
 * the channel in capitals.
 */
function channelSchedules(env: Record<string, string | undefined>): Map<string, readonly number[]> {
  const schedules = new Map<string, readonly number[]>();
  for (const [name, value] of Object.entries(env)) {
    const channel = CHANNEL_SCHEDULE.exec(name)?.[1];
    if (channel === undefined || value === undefined) continue;
    try {
      schedules.set(channel, parseSchedule(value));
    } catch (error) {
      throw new ConfigError(`${name} is wrong: ${(error as Error).message}.`);
    }
  }
  return schedules;
}

/** The embedded stack's random secrets, created once per data folder and shared by its processes. */
export interface EmbeddedSecrets {
  readonly secret: string;
  readonly simulator: string;
  readonly simulator2: string;
}

/** The file with the embedded stack's secrets. */
export const secretsFile = (home: string): string => join(home, 'secrets.json');

function readEmbeddedSecrets(home: string): EmbeddedSecrets {
  try {
    return JSON.parse(readFileSync(secretsFile(home), 'utf8')) as EmbeddedSecrets;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw unusableHome(home, error);
    throw new ConfigError(
      `NODROP_HOME=${home} has no secrets yet: start the stack (npm run stack or npm start), which creates them, or set DATABASE_URL to your own database.`,
    );
  }
}

/** The error for a data folder that cannot be read or written. */
export const unusableHome = (home: string, error: unknown): ConfigError =>
  new ConfigError(`NODROP_HOME is wrong: ${home} cannot be used (${(error as Error).message}).`);
