/** The merchant's own id of an order: text that stays the same, and can be read, wherever it goes. */

/** Characters, and not the units of UTF-16: as OpenAPI counts. */
const AT_MOST = 64;

/** Letters, marks, digits, punctuation and symbols of every script, and the space. */
const CHARACTERS = /^[\p{L}\p{M}\p{N}\p{P}\p{S} ]*$/u;
/** Among them, and shown as nothing. */
const INVISIBLE = /[\p{Default_Ignorable_Code_Point}\u2800]/u;

/**
 * The same for readers of the API's document, as far as every language's regular expressions can say it: without the
 * classes of Unicode, it takes more.
 */
export const ORDER_ID_PATTERN =
  '^(?!\\.{1,2}$)(?! )(?!.* $)(?!.*  )[^\\u0000-\\u001f\\u007f-\\u00a0\\u00ad\\u061c\\u200b-\\u200f\\u2028-\\u202f\\u205f-\\u206f\\u3000\\ufeff]{1,64}$';

export const ORDER_ID_RULE =
  "1 to 64 characters: letters, marks, digits, punctuation and symbols of every script, and single spaces within; not a mark first, in Unicode's form NFC, and neither `.` nor `..`";

/**
 * What is wrong with an order's id, as the end of a sentence; undefined when nothing is. What is shown as nothing, or
 * could become another id on its way (by NFC, by trimmed or joined spaces, as part of an address), is refused and never
 * changed in silence: two requests of one shop must name one order. Different letters that look alike are taken.
 */
export function orderIdFault(id: string): string | undefined {
  const length = [...id].length;
  if (length < 1 || length > AT_MOST) return `must have 1 to ${AT_MOST} characters`;
  if (!CHARACTERS.test(id) || INVISIBLE.test(id))
    return 'must consist of letters, marks, digits, punctuation, symbols, and spaces within';
  if (id.startsWith(' ') || id.endsWith(' ')) return 'must not begin or end with a space';
  // Pages show one.
  if (id.includes('  ')) return 'must not have two spaces in a row';
  // It would be shown on what stands before the id.
  if (/^\p{M}/u.test(id)) return 'must not begin with a mark';
  // Addresses lose them: /v1/orders/.. is /v1/.
  if (id === '.' || id === '..') return 'must not be . or ..';
  if (id.normalize('NFC') !== id) return "must be in Unicode's form NFC";
  return undefined;
}
