import type { Config } from '../../config.ts';
import { EXPIRY_AT_LEAST_S } from '../../domain/payment.ts';
import { Refusal } from '../../domain/refusal.ts';

/**
 * Checks the minimum of `expiresInSeconds`, which depends on the mode (test or live).
 * @param given the values in seconds, keyed by the path of their field in the request
 * @throws Refusal `invalid_request`
 */
export function requireExpiry(
  mode: Config['mode'],
  given: Readonly<Record<string, number | undefined>>,
): void {
  const least = EXPIRY_AT_LEAST_S[mode];
  const message = `must be at least ${least} in ${mode} mode`;
  const errors = Object.entries(given)
    .filter(([, seconds]) => seconds !== undefined && seconds < least)
    .map(([path]) => ({ path, message }));
  if (errors.length === 0) return;
  const names = errors.map(({ path }) => path).join(', ');
  throw new Refusal('invalid_request', `${names}: ${message}.`, { errors });
}
