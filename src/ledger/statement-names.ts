import { createHash } from 'node:crypto';

/**
 * The greatest number of names of prepared statements. Each prepared statement uses memory in every connection, both in
 * this process and in PostgreSQL. Without a limit there would be many, because some code builds a different text for
 * each set of changed columns.
 */
const NAMES = 300;

/**
 * Matches SQL conditions on a range, a list or a pattern. For such conditions a generic plan can be slow, because
 * PostgreSQL makes the plan without the values.
 */
const DEPENDS_ON_VALUES = /[<>]=? \(?\$|\b(IN|ANY|LIKE)\b/i;

/**
 * Gives names to prepared statements. PostgreSQL parses a named statement once per connection, and reuses its generic
 * plan if plans for the actual values are not better. A name is a hash of the statement's text. Therefore a name always
 * belongs to the same text, even if a pooler lends a connection on which another process prepared statements.
 * @returns a function that returns the name for a statement, or undefined if the statement should not be prepared
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
