import { createHash } from 'node:crypto';

/** Each text keeps memory in every connection, here and in PostgreSQL; some have one for each set of changed columns. */
const NAMES = 300;

/** A range, a list or a pattern: a plan that is made once, without the values, can be a bad one. */
const DEPENDS_ON_VALUES = /[<>]=? \(?\$|\b(IN|ANY|LIKE)\b/i;

/**
 * Names for prepared statements: PostgreSQL parses a named one once for each connection, and plans it once when that plan
 * is as good as those for the values. A name is a hash of its text: should a pooler lend a connection where another
 * process prepared a statement, its name never stands for another one.
 * @returns a function that gives the name of a statement's text; undefined when it is not to be prepared
 */
export function statementNames(): (statement: { readonly sql: string }) => string | undefined {
  const names = new Map<string, string>();
  return ({ sql }) => {
    const known = names.get(sql);
    if (known !== undefined || names.size === NAMES || DEPENDS_ON_VALUES.test(sql)) return known;
    const name = `nodrop_${createHash('sha256').update(sql).digest('base64url').slice(0, 22)}`;
    names.set(sql, name);
    return name;
  };
}
