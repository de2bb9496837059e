/** The settings of the receiver, from the environment. A missing or wrong setting ends the process with a message. */

function refuse(sentence) {
  console.error(sentence);
  process.exit(1);
}

function setting(name, rule, meaning) {
  const value = process.env[name];
  if (!value) refuse(`${name} is missing: set it to ${meaning}.`);
  if (!rule.test(value)) refuse(`${name} is wrong: it must be ${meaning}.`);
  return value;
}

export const NODROP_WEBHOOK_SECRET = setting(
  'NODROP_WEBHOOK_SECRET',
  /^whsec_[A-Za-z0-9+/]{32,}={0,2}$/,
  'the secret (whsec_...) that merchants set or merchants rotate-secret printed',
);
export const DATABASE_URL = setting(
  'DATABASE_URL',
  /^postgres(ql)?:\/\/\S+$/,
  "the address of the shop's own database, postgresql://USER:PASSWORD@HOST:PORT/NAME",
);
export const NODROP_URL = setting(
  'NODROP_URL',
  /^https?:\/\/\S+$/,
  "the address of nodrop's API, http://HOST:3000",
);
export const NODROP_KEY = setting(
  'NODROP_KEY',
  /^sk_\S+$/,
  "the merchant's API key (sk_...) that keys create printed",
);
/**
 * The address at which the receiver listens. By default only this machine can connect. With HOST 0.0.0.0, other
 * machines can connect too.
 */
export const LISTEN = { host: process.env.HOST || '127.0.0.1', port: process.env.PORT || '3200' };

/** Prints where the receiver listens, or why it cannot. */
export function started(error) {
  const { host, port } = LISTEN;
  if (error) {
    const isHost = ['EADDRNOTAVAIL', 'ENOTFOUND', 'EAI_AGAIN'].includes(error.code);
    const mend = isHost ? 'HOST to an address of this machine' : 'PORT to a free one';
    refuse(`The receiver cannot listen at ${host}:${port} (${error.code}): set ${mend}.`);
  }
  console.log(`The receiver accepts events at http://${host}:${port}/nodrop/events`);
}
