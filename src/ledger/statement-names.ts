import { createHash } from 'node:crypto';

/**
 * The greatest number of names. Each prepared statement uses memory in every connection, in this process and in
 * PostgreSQL, and some code builds one text per set of changed columns.
 */
const NAMES = 300;

/**
 * Matches a range, a list or a pattern. For such conditions, a generic plan that is made without the values can be bad.
 */
const DEPENDS_ON_VALUES = /[<>]=? \(?\$|\b(IN|ANY|LIKE)\b/i;

/**
 * Names for prepared statements. PostgreSQL parses a named statement once per connection, and reuses its plan if that
 * is as good as plans for the actual values. A name is a hash of the statement's text. Therefore, if a pooler lends a
 * connection on which another process prepared statements, each name still belongs to the same text.
 * @returns a function that returns the name for a statement's text; undefined if the statement should not be prepared
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
