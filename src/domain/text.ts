const UNSTORABLE = /\0|\p{Surrogate}/gu;

/** True for text that PostgreSQL stores: no NUL, no half of a surrogate pair. */
export const isStorable = (value: string): boolean => value.search(UNSTORABLE) === -1;

/** The same text with a mark in place of what PostgreSQL does not store. */
export const storable = (value: string): string => value.replace(UNSTORABLE, '\uFFFD');

/** They change the direction of what follows, so that a person reads something else than what is written. */
const OVERRIDES = /[\u202a-\u202e\u2066-\u2069]/;

/** Not a space of any kind, a control or format character, or one that is shown as nothing. */
const VISIBLE = /[^\p{Z}\p{Cc}\p{Cf}\p{Cs}\p{Default_Ignorable_Code_Point}\u2800]/u;

/**
 * What is wrong with a text that people read, as the end of a sentence; undefined when nothing is. The marks of a
 * direction (LRM, RLM, ALM) are taken: names in two scripts need them, and they reorder nothing but spaces and signs.
 */
export function readableFault(value: string): string | undefined {
  if (OVERRIDES.test(value))
    return 'must not contain bidirectional overrides, embeddings or isolates (U+202A to U+202E, U+2066 to U+2069)';
  if (!VISIBLE.test(value)) return 'must have something to be seen';
  return undefined;
}

/**
 * The text with its punctuation escaped, so that Markdown shows it as it is; `. : -` within words mean nothing there,
 * but for `www.`, which begins a link.
 */
export const inMarkdown = (value: string): string => value.replace(/[!-,/;-@[-`{-~]|(?<=www)\./gi, '\\$&');

/** What `inMarkdown` was given. */
export const fromMarkdown = (value: string): string => value.replace(/\\([!-,./;-@[-`{-~])/g, '$1');
