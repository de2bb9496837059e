import { storable } from '../domain/text.ts';

/** More of a body is not kept; characters. */
export const ANSWER_START_CHARACTERS = 512;

/** What a person must not read in a log though a service may echo it: signatures, secrets, keys and tokens of nodrop. */
const SECRETS =
  /(?:\bv1(?:,|%2C|\\u002c)|\bwhsec(?:_|%5F)|\b(?:sk|ct)_)[^\s"'<>,;]{8,}|\bBearer\s+[^\s"'<>,;]+/gi;
const REMOVED = '[removed]';

/**
 * The start of an answer's body, for the log of deliveries and `merchants test-event`: one line without control and format characters, and
 * without secrets, also those that signed the call and are in it without their `whsec_`.
 * @returns null when nothing is left to read.
 */
export function answerStart(body: string, secrets: readonly string[]): string | null {
  const line = storable(
    body
      .replace(/[\p{Cc}\p{Z}]+/gu, ' ')
      .replace(/\p{Cf}/gu, '')
      .trim(),
  );
  const bare = secrets.map((secret) => secret.replace(/^whsec_/, ''));
  // JSON may have a slash as `\/`, and PHP writes it so.
  const written = bare.flatMap((secret) => [secret, secret.replaceAll('/', '\\/')]);
  const safe = written.reduce(
    (text, secret) => text.replaceAll(secret, REMOVED),
    line.replace(SECRETS, REMOVED),
  );
  return (
    [...safe.slice(0, 2 * ANSWER_START_CHARACTERS)].slice(0, ANSWER_START_CHARACTERS).join('').trim() || null
  );
}
