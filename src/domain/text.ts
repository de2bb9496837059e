const UNSTORABLE = /\0|\p{Surrogate}/gu;

/** True for text that PostgreSQL can store: no NUL and no lone surrogate. */
export const isStorable = (value: string): boolean => value.search(UNSTORABLE) === -1;

/** The text with U+FFFD in place of characters that PostgreSQL cannot store. */
export const storable = (value: string): string => value.replace(UNSTORABLE, '\uFFFD');

/** Characters that change the direction of the following text, so that people see the characters in another order. */
const OVERRIDES = /[\u202a-\u202e\u2066-\u2069]/;

/** Matches a visible character, but not a space, a control character, a format character or an invisible character. */
const VISIBLE = /[^\p{Z}\p{Cc}\p{Cf}\p{Cs}\p{Default_Ignorable_Code_Point}\u2800]/u;

/**
 * Why a text is not acceptable for people to read, as the end of a sentence; undefined if it is acceptable. The
 * direction marks LRM, RLM and ALM are accepted, because names in two scripts need them and they reorder only spaces
 * and punctuation.
 */
export function readableFault(value: string): string | undefined {
  if (OVERRIDES.test(value))
    return 'must not contain bidirectional overrides, embeddings or isolates (U+202A to U+202E, U+2066 to U+2069)';
  if (!VISIBLE.test(value)) return 'must contain a visible character';
  return undefined;
}

/**
 * The text with its punctuation escaped, so that Markdown shows it unchanged. `.`, `:` and `-` stay unescaped, because
 * they have no meaning within words. Only the dot of `www.` is escaped, because it would begin a link.
 */
export const inMarkdown = (value: string): string => value.replace(/[!-,/;-@[-`{-~]|(?<=www)\./gi, '\\$&');

/** Reverses `inMarkdown`. */
export const fromMarkdown = (value: string): string => value.replace(/\\([!-,./;-@[-`{-~])/g, '$1');
