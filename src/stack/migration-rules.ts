/**
 * What a migration may do to tables that are in use, so that no write waits while rows are read or an index is built.
 * docs/decisions/0021-migrations-of-tables-in-use.md says why. The rules read the SQL's words, not its meaning: they
 * catch what is forgotten, and do not replace a review.
 */

/** Migrations after this folder keep the rules; those up to it make the tables, and no release has applied them. */
export const RULES_SINCE = '20261126150000_workflow_busy';

/** Comments, texts, quoted names, bodies of functions, the ends of statements, and all other text. */
const TOKENS =
  /--[^\n]*|\/\*[\s\S]*?\*\/|'(?:[^']|'')*'|"(?:[^"]|"")*"|\$(\w*)\$[\s\S]*?\$\1\$|;|[^-/'"$;]+|[-/'"$]/g;

/** A statement as it is written, and as the rules read it. */
interface Statement {
  readonly text: string;
  /** Without comments, with '' for every text and function body, in one line. */
  readonly bare: string;
}

/** The statements of a script, without their semicolons. */
export function statementsOf(sql: string): readonly Statement[] {
  const statements: { text: string; bare: string }[] = [{ text: '', bare: '' }];
  for (const [token] of sql.matchAll(TOKENS)) {
    const last = statements.at(-1);
    if (last === undefined) break;
    if (token === ';') {
      statements.push({ text: '', bare: '' });
      continue;
    }
    last.text += token;
    if (/^(--|\/\*)/.test(token)) last.bare += ' ';
    else last.bare += /^('|\$\w*\$)./s.test(token) ? "''" : token;
  }
  return statements
    .map(({ text, bare }) => ({ text: text.trim(), bare: bare.replaceAll(/\s+/g, ' ').trim() }))
    .filter(({ bare }) => bare !== '');
}

const NAME = '((?:"[^"]+"|\\w+)(?:\\.(?:"[^"]+"|\\w+))?)';
const named = (pattern: string, flags = 'i') => new RegExp(pattern.replaceAll('NAME', NAME), flags);

const CREATE_INDEX = named(
  '^CREATE (?:UNIQUE )?INDEX (CONCURRENTLY )?(IF NOT EXISTS )?NAME ON (?:ONLY )?NAME',
);
const CREATE_TABLE = named('^CREATE TABLE (?:IF NOT EXISTS )?NAME');
const ALTER_TABLE = named('^ALTER TABLE (?:IF EXISTS )?(?:ONLY )?NAME (.*)$', 'is');
const CREATE_TRIGGER = named('^CREATE (?:OR REPLACE )?(?:CONSTRAINT )?TRIGGER .*? ON NAME');
const VALIDATE = /^ALTER TABLE .* VALIDATE CONSTRAINT /i;
const READS_ROWS = /^(UPDATE|DELETE|INSERT|MERGE|DO|SELECT|WITH)\b/i;
const TRANSACTION = /^(BEGIN|START|COMMIT|END|ROLLBACK|ABORT|SAVEPOINT)\b/i;

const unquoted = (name: string) => name.replaceAll('"', '').replace(/^public\./, '');

/** The index that a migration makes `CONCURRENTLY`, if that is what it does. */
export function concurrentIndex(sql: string): string | undefined {
  const [statement] = statementsOf(sql);
  const [, concurrently, , name] = CREATE_INDEX.exec(statement?.bare ?? '') ?? [];
  return concurrently === undefined || name === undefined ? undefined : unquoted(name);
}

/** The parts of an `ALTER TABLE`: commas inside brackets part nothing. */
function actionsOf(actions: string): readonly string[] {
  const parts = [''];
  let depth = 0;
  for (const character of actions) {
    if (character === '(') depth += 1;
    if (character === ')') depth -= 1;
    if (character === ',' && depth === 0) parts.push('');
    else parts[parts.length - 1] += character;
  }
  return parts.map((part) => part.trim());
}

/** What an action of an `ALTER TABLE` does to all rows of its table while nobody may write, or undefined. */
function slowAction(action: string): string | undefined {
  if (/^ADD (CONSTRAINT ("[^"]+"|\w+) )?(CHECK|FOREIGN KEY|NOT NULL)\b/i.test(action)) {
    return / NOT VALID$/i.test(action)
      ? undefined
      : 'reads every row: add it NOT VALID, and VALIDATE it in a migration of its own';
  }
  if (/^ADD (CONSTRAINT ("[^"]+"|\w+) )?(UNIQUE|PRIMARY KEY|EXCLUDE)\b/i.test(action)) {
    return / USING INDEX /i.test(action)
      ? undefined
      : 'builds an index: make it CONCURRENTLY in a migration of its own, and add the constraint USING INDEX';
  }
  if (/^ADD (COLUMN )?/i.test(action) && /\b(CHECK|REFERENCES|UNIQUE|PRIMARY KEY)\b/i.test(action)) {
    return 'reads every row: add the column alone, then its constraint NOT VALID';
  }
  if (
    /^ADD (COLUMN )?/i.test(action) &&
    /\b((BIG|SMALL)?SERIAL|GENERATED)\b|\bDEFAULT \w+ ?\((?!\))/i.test(action)
  ) {
    return 'writes every row: add the column empty, and fill it in migrations of their own';
  }
  if (/^ALTER (COLUMN )?("[^"]+"|\w+) (SET DATA )?TYPE\b/i.test(action)) {
    return 'writes every row: add another column, and fill it in migrations of their own';
  }
  if (/^ALTER (COLUMN )?("[^"]+"|\w+) SET NOT NULL$/i.test(action)) {
    return 'reads every row: add the constraint NOT NULL ... NOT VALID, and VALIDATE it in a migration of its own';
  }
  return undefined;
}

/**
 * Where a migration breaks the rules, a sentence each; empty when it keeps them. Tables that it makes itself are empty,
 * and may be changed in any way.
 */
export function brokenRules(sql: string): readonly string[] {
  const statements = statementsOf(sql).map(({ bare }) => bare);
  const faults: string[] = [];
  const alone = statements.length === 1;
  const own = new Set(statements.flatMap((it) => CREATE_TABLE.exec(it)?.[1] ?? []).map(unquoted));
  const isOwn = (table: string | undefined) => own.has(unquoted(table ?? ''));
  let locksTable = false;
  for (const statement of statements) {
    const index = CREATE_INDEX.exec(statement);
    const altered = ALTER_TABLE.exec(statement);
    if (TRANSACTION.test(statement)) {
      faults.push(
        `${statement}: a migration is one transaction anyway, and its end cannot be in the middle.`,
      );
    }
    if (/^(CREATE|DROP|REINDEX)\b.*\bCONCURRENTLY\b/i.test(statement) && !alone) {
      faults.push(`${statement}: CONCURRENTLY works only as the one statement of a migration.`);
    }
    if (/^CREATE\b.*\bCONCURRENTLY IF NOT EXISTS\b/i.test(statement)) {
      faults.push(`${statement}: IF NOT EXISTS takes the INVALID index of a failed try for the index.`);
    }
    if (index !== null && index[1] === undefined && !isOwn(index[4])) {
      faults.push(`${statement}: nobody writes meanwhile: make it CONCURRENTLY, alone in a migration.`);
    }
    if (VALIDATE.test(statement)) continue;
    if (altered !== null && !isOwn(altered[1])) {
      locksTable = true;
      for (const action of actionsOf(altered[2] ?? '')) {
        const slow = slowAction(action);
        if (slow !== undefined) faults.push(`${action}: it ${slow}.`);
      }
    }
    const trigger = CREATE_TRIGGER.exec(statement);
    if (trigger !== null && !isOwn(trigger[1])) locksTable = true;
  }
  if (statements.some((it) => VALIDATE.test(it)) && !statements.every((it) => VALIDATE.test(it))) {
    faults.push('VALIDATE CONSTRAINT reads every row: in a migration with nothing else.');
  }
  if (locksTable) {
    for (const statement of statements.filter((it) => READS_ROWS.test(it))) {
      faults.push(
        `${statement}: it reads or writes rows under the lock of an ALTER TABLE or CREATE TRIGGER: in a migration of its own.`,
      );
    }
  }
  return faults;
}

/** A migration that is to be written. */
export interface SplitMigration {
  /** For the folder's name, after the name that was given. */
  readonly suffix: string;
  readonly sql: string;
}

const FOREIGN_KEY = named('^ALTER TABLE NAME ADD CONSTRAINT NAME FOREIGN KEY ');

/** Cuts the SQL that Prisma makes into migrations that keep the rules, as far as that needs no decision. */
export function splitByRules(sql: string): readonly SplitMigration[] {
  const statements = statementsOf(sql);
  const own = new Set(statements.flatMap(({ bare }) => CREATE_TABLE.exec(bare)?.[1] ?? []).map(unquoted));
  const rest: string[] = [];
  const indexes: SplitMigration[] = [];
  const foreignKeys: string[] = [];
  const validations: string[] = [];
  for (const { text, bare } of statements) {
    const [, , , index, indexed] = CREATE_INDEX.exec(bare) ?? [];
    const [, table, constraint] = FOREIGN_KEY.exec(bare) ?? [];
    if (index !== undefined && indexed !== undefined && !own.has(unquoted(indexed))) {
      const concurrent = text.replace(/\bINDEX\b(?= ")/, 'INDEX CONCURRENTLY');
      indexes.push({ suffix: `_${unquoted(index)}`, sql: `${concurrent};\n` });
    } else if (table !== undefined && constraint !== undefined) {
      if (own.has(unquoted(table))) foreignKeys.push(`${text};\n`);
      else {
        foreignKeys.push(`${text} NOT VALID;\n`);
        validations.push(`ALTER TABLE ${table} VALIDATE CONSTRAINT ${constraint};\n`);
      }
    } else rest.push(`${text};\n`);
  }
  // A foreign key may refer to what an index makes unique.
  const [first, later] = indexes.length === 0 ? [[...rest, ...foreignKeys], []] : [rest, foreignKeys];
  return [
    { suffix: '', sql: first.join('\n') },
    ...indexes,
    { suffix: '_foreign_keys', sql: later.join('\n') },
    { suffix: '_validated', sql: validations.join('\n') },
  ].filter((migration) => migration.sql !== '');
}
