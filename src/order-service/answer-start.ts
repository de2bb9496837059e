import { storable } from '../domain/text.ts';

/** The number of characters of an order service's answer that nodrop keeps. */
export const ANSWER_START_CHARACTERS = 512;

/**
 * Matches signatures, secrets, keys and tokens of nodrop. An order service may return them in its answer, and the log
 * must not show them.
 */
const SECRETS =
  /(?:\bv1(?:,|%2C|\\u002c)|\bwhsec(?:_|%5F)|\b(?:sk|ct)_)[^\s"'<>,;]{8,}|\bBearer\s+[^\s"'<>,;]+/gi;
const REMOVED = '[removed]';

/**
 * Returns the start of an answer's body, for the delivery log and `merchants test-event`. The text is one line without
 * control and format characters, and without secrets. The function also removes the given signing secrets if they
 * appear without their prefix `whsec_`.
 * @returns null if no text is left
 */
export function answerStart(body: string, secrets: readonly string[]): string | null {
  const line = storable(
    body
      .replace(/[\p{Cc}\p{Z}]+/gu, ' ')
      .replace(/\p{Cf}/gu, '')
      .trim(),
  );
  const bare = secrets.map((secret) => secret.replace(/^whsec_/, ''));
  // In JSON, a slash may be escaped as `\/`, as PHP does.
  const written = bare.flatMap((secret) => [secret, secret.replaceAll('/', '\\/')]);
  const safe = written.reduce(
    (text, secret) => text.replaceAll(secret, REMOVED),
    line.replace(SECRETS, REMOVED),
  );
  return (
    [...safe.slice(0, 2 * ANSWER_START_CHARACTERS)].slice(0, ANSWER_START_CHARACTERS).join('').trim() || null
  );
}
