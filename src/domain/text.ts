const UNSTORABLE = /\0|\p{Surrogate}/gu;

/** True for text that PostgreSQL can store: no NUL and no lone surrogate. */
export const isStorable = (value: string): boolean => value.search(UNSTORABLE) === -1;

/** The text with U+FFFD in place of characters that PostgreSQL cannot store. */
export const storable = (value: string): string => value.replace(UNSTORABLE, '\uFFFD');

/**
 * Characters that change the direction of the text after them. People then see the characters in another order than the
 * stored one.
 */
const OVERRIDES = /[\u202a-\u202e\u2066-\u2069]/;

/**
 * Matches one visible character. Spaces, control characters, format characters and invisible characters do not match.
 */
const VISIBLE = /[^\p{Z}\p{Cc}\p{Cf}\p{Cs}\p{Default_Ignorable_Code_Point}\u2800]/u;

/**
 * Returns why people could read a text wrongly, as the end of a sentence. Undefined if the text is acceptable. The
 * direction marks LRM, RLM and ALM are accepted. Names in two scripts need these marks, and they reorder only spaces
 * and punctuation.
 */
export function readableFault(value: string): string | undefined {
  if (OVERRIDES.test(value))
    return 'must not contain bidirectional overrides, embeddings or isolates (U+202A to U+202E, U+2066 to U+2069)';
  if (!VISIBLE.test(value)) return 'must contain a visible character';
  return undefined;
}

/**
 * Escapes the punctuation in a text, so that Markdown shows the text unchanged. `.`, `:` and `-` stay unescaped,
 * because they have no meaning within words. But the dot of `www.` is escaped, because otherwise Markdown would make a
 * link.
 */
export const inMarkdown = (value: string): string => value.replace(/[!-,/;-@[-`{-~]|(?<=www)\./gi, '\\$&');

/** Reverses `inMarkdown`. */
export const fromMarkdown = (value: string): string => value.replace(/\\([!-,./;-@[-`{-~])/g, '$1');
