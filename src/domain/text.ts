const UNSTORABLE = /\0|\p{Surrogate}/gu;

/** True for text that PostgreSQL stores: no NUL, no half of a surrogate pair. */
export const isStorable = (value: string): boolean => value.search(UNSTORABLE) === -1;

/** The same text with a mark in place of what PostgreSQL does not store. */
export const storable = (value: string): string => value.replace(UNSTORABLE, '\uFFFD');
