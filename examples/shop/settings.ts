/** The shop's settings, from the environment. */
export interface Settings {
  readonly host: string;
  readonly port: number;
  /** The shop's public URL. */
  readonly url: string;
  readonly databaseUrl: string;
  readonly nodropUrl: string;
  readonly nodropKey: string;
  /** The secret that `merchants set --order-service-url` prints; it verifies nodrop's requests. */
  readonly webhookSecret: string;
  readonly channel: string;
}

/** Thrown when a setting is missing or wrong. The message is one sentence that names the variable. */
export class SettingsError extends Error {}

/** @throws SettingsError */
export function readSettings(env: NodeJS.ProcessEnv): Settings {
  const required = (name: string, meaning: string): string => {
    const value = env[name];
    if (!value) throw new SettingsError(`${name} is missing: set it to ${meaning}.`);
    return value;
  };
  const address = (name: string, value: string): string => {
    if (!URL.canParse(value) || !/^https?:$/.test(new URL(value).protocol))
      throw new SettingsError(`${name} is wrong: it must be an http or https URL.`);
    return value.replace(/\/+$/, '');
  };
  const host = env.SHOP_HOST || '127.0.0.1';
  const port = Number(env.SHOP_PORT || 3100);
  if (!Number.isInteger(port) || port < 1 || port > 65_535)
    throw new SettingsError('SHOP_PORT is wrong: it must be a port from 1 to 65535.');
  const webhookSecret = required('SHOP_WEBHOOK_SECRET', 'the secret that signs events (whsec_...)');
  if (!/^whsec_[A-Za-z0-9+/]{32,}={0,2}$/.test(webhookSecret))
    throw new SettingsError('SHOP_WEBHOOK_SECRET is wrong: it must be whsec_ and base64.');
  return {
    host,
    port,
    url: address('SHOP_URL', env.SHOP_URL || `http://${host}:${port}`),
    databaseUrl: required('SHOP_DATABASE_URL', 'a PostgreSQL database of its own'),
    nodropUrl: address('SHOP_NODROP_URL', required('SHOP_NODROP_URL', "the address of nodrop's API")),
    nodropKey: required('SHOP_NODROP_KEY', "the merchant's API key"),
    webhookSecret,
    channel: env.SHOP_CHANNEL || 'simulator',
  };
}
