/** Checks the merchant's own order id. It must be a text that stays unchanged and readable wherever it is used. */

/** The maximum length of an order id. It counts code points and not UTF-16 units, as OpenAPI does. */
const AT_MOST = 64;

/**
 * The characters of an order id: letters, marks, digits, punctuation and symbols of every script, and the space U+0020.
 */
const CHARACTERS = /^[\p{L}\p{M}\p{N}\p{P}\p{S} ]*$/u;
/** These characters belong to the accepted classes, but people cannot see them. */
const INVISIBLE = /[\p{Default_Ignorable_Code_Point}\u2800]/u;

/**
 * The order id's pattern in the OpenAPI document. It avoids Unicode classes, because some programming languages do not
 * support them. Therefore it accepts more ids than `orderIdFault` does.
 */
export const ORDER_ID_PATTERN =
  '^(?!\\.{1,2}$)(?! )(?!.* $)(?!.*  )[^\\u0000-\\u001f\\u007f-\\u00a0\\u00ad\\u061c\\u200b-\\u200f\\u2028-\\u202f\\u205f-\\u206f\\u3000\\ufeff]{1,64}$';

export const ORDER_ID_RULE =
  "1 to 64 characters: letters, marks, digits, punctuation and symbols of every script, and single spaces within; not a mark first, in Unicode's form NFC, and neither `.` nor `..`";

/**
 * Returns why an order id is not valid, as the end of a sentence. Undefined if it is valid. An id is rejected if it
 * contains invisible characters, or if another program could change it. Programs change text by NFC, by trimming or
 * joining spaces, or when they put it into a URL. nodrop rejects such an id instead of changing it, because otherwise
 * two requests of one shop could name different orders. Letters that look alike are accepted.
 */
export function orderIdFault(id: string): string | undefined {
  const length = [...id].length;
  if (length < 1 || length > AT_MOST) return `must have 1 to ${AT_MOST} characters`;
  if (!CHARACTERS.test(id) || INVISIBLE.test(id))
    return 'must consist of letters, marks, digits, punctuation, symbols, and spaces within';
  if (id.startsWith(' ') || id.endsWith(' ')) return 'must not begin or end with a space';
  // Web pages show two spaces in a row as one space.
  if (id.includes('  ')) return 'must not have two spaces in a row';
  // A leading mark would combine with the character in front of the id.
  if (/^\p{M}/u.test(id)) return 'must not begin with a mark';
  // A URL does not keep these two path segments: /v1/orders/.. becomes /v1/.
  if (id === '.' || id === '..') return 'must not be . or ..';
  if (id.normalize('NFC') !== id) return "must be in Unicode's form NFC";
  return undefined;
}
