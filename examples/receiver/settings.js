/** What the environment of the receiver says. What is missing or wrong ends the process with a sentence. */

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
export const PORT = process.env.PORT || '3200';

/** Says where the receiver listens, or why it does not. */
export function started(error) {
  if (error) refuse(`The receiver cannot listen on port ${PORT} (${error.code}): set PORT to a free one.`);
  console.log(`The receiver takes events at http://127.0.0.1:${PORT}/nodrop/events`);
}
