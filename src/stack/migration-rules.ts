/**
 * Rules for migrations of tables in use, so that no write waits while a migration reads all rows or builds an index.
 * The reasons are in docs/decisions/0021-migrations-of-tables-in-use.md. The rules match SQL text and do not understand
 * it, so they catch common mistakes but do not replace a review.
 */

/**
 * The rules apply only to migrations after this folder. The older migrations create the tables, and no release has
 * applied them.
 */
export const RULES_SINCE = '20261126150000_workflow_busy';

/** Matches comments, string literals, quoted names, function bodies, semicolons, and all other text. */
const TOKENS =
  /--[^\n]*|\/\*[\s\S]*?\*\/|'(?:[^']|'')*'|"(?:[^"]|"")*"|\$(\w*)\$[\s\S]*?\$\1\$|;|[^-/'"$;]+|[-/'"$]/g;

/** A statement of a script, in its original form and in a normalised form for the rules. */
interface Statement {
  readonly text: string;
  /** The statement in one line, without comments. `''` replaces each string literal and function body. */
  readonly bare: string;
}

/** Splits a script into statements, without their semicolons. */
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
const TRIGGER = named('^(?:CREATE (?:OR REPLACE )?(?:CONSTRAINT )?|DROP )TRIGGER .*? ON NAME');
const DROP = /^(?:DROP (TABLE|INDEX)|TRUNCATE(?: TABLE)?) (?:IF EXISTS )?(.*?)(?: CASCADE| RESTRICT)?$/i;
const DROP_CONCURRENTLY = named('^DROP INDEX CONCURRENTLY (?:IF EXISTS )?NAME');
const REFERENCES = named('\\bREFERENCES NAME', 'gi');
const FOREIGN_KEY = named('^ALTER TABLE NAME ADD CONSTRAINT NAME FOREIGN KEY ');
const VALIDATE = /^ALTER TABLE .* VALIDATE CONSTRAINT /i;
const READS_ROWS = /^(UPDATE|DELETE|INSERT|MERGE|DO|SELECT|WITH)\b/i;
const TRANSACTION = /^(BEGIN|START|COMMIT|END|ROLLBACK|ABORT|SAVEPOINT)\b/i;

const unquoted = (name: string) => name.replaceAll('"', '').replace(/^public\./, '');

/** An index that a migration creates or drops `CONCURRENTLY`. */
export interface ConcurrentIndex {
  readonly name: string;
  readonly table: string;
}

/** @returns the index that a migration creates `CONCURRENTLY`; undefined for other migrations. */
export function concurrentIndex(sql: string): ConcurrentIndex | undefined {
  const [statement] = statementsOf(sql);
  const [, concurrently, , name, table] = CREATE_INDEX.exec(statement?.bare ?? '') ?? [];
  if (concurrently === undefined || name === undefined || table === undefined) return undefined;
  return { name: unquoted(name), table: unquoted(table) };
}

/** @returns the name of the index that a migration drops `CONCURRENTLY`; undefined for other migrations. */
export function droppedIndex(sql: string): string | undefined {
  const [statement] = statementsOf(sql);
  const [, name] = DROP_CONCURRENTLY.exec(statement?.bare ?? '') ?? [];
  return name === undefined ? undefined : unquoted(name);
}

/**
 * True if a script is a single `CONCURRENTLY` statement. While such a statement waits for its locks, no write waits
 * behind it.
 */
export function isConcurrent(sql: string): boolean {
  const [statement, ...others] = statementsOf(sql);
  return others.length === 0 && /\bCONCURRENTLY\b/i.test(statement?.bare ?? '');
}

/**
 * Matches statements that PostgreSQL runs only outside a transaction block. So such a statement must be the only
 * statement of its script.
 */
const OUTSIDE = /^(VACUUM\b|.*\bCONCURRENTLY\b)/i;

const COMMIT_AT_END = /\bCOMMIT(?: (?:WORK|TRANSACTION))?(?: AND (?:NO )?CHAIN)?$/i;

/**
 * True if the statement is a `DO` block that commits after each batch of rows. Such a block does not lock any row for
 * long.
 */
function commitsInside({ text, bare }: Statement): boolean {
  if (!/^DO\b/i.test(bare)) return false;
  const bodies = [...text.matchAll(TOKENS)].flatMap(
    ([token]) => /^('|\$\w*\$)(.*)\1$/s.exec(token)?.[2] ?? [],
  );
  return bodies.some((body) => statementsOf(body).some((inner) => COMMIT_AT_END.test(inner.bare)));
}

/**
 * True if a script is a single statement that runs outside any transaction. After an interruption, such a statement may
 * be partly executed.
 */
export function runsOutsideTransaction(sql: string): boolean {
  const [statement, ...others] = statementsOf(sql);
  if (statement === undefined || others.length > 0) return false;
  return OUTSIDE.test(statement.bare) || commitsInside(statement);
}

/** Splits the actions of an `ALTER TABLE` at commas, except commas inside brackets. */
function actionsOf(actions: string): readonly string[] {
  const parts = [''];
  let depth = 0;
  for (const character of actions) {
    if ('(['.includes(character)) depth += 1;
    if (')]'.includes(character)) depth -= 1;
    if (character === ',' && depth === 0) parts.push('');
    else parts[parts.length - 1] += character;
  }
  return parts.map((part) => part.trim());
}

/**
 * @returns the tables that the statement locks until the migration ends, so that writes to them are blocked.
 *   `VALIDATE CONSTRAINT` and `CONCURRENTLY` block no writes. Other rules cover all other statements.
 */
function lockedTables(statement: string): readonly string[] {
  if (VALIDATE.test(statement)) return [];
  const altered = ALTER_TABLE.exec(statement);
  const refers = altered !== null || CREATE_TABLE.test(statement);
  const referred = refers ? [...statement.matchAll(REFERENCES)].map(([, table]) => table) : [];
  const [, kind, list] = DROP.exec(statement) ?? [];
  const dropped = /\bCONCURRENTLY\b/i.test(statement) ? [] : (list?.split(/ ?, ?/) ?? []);
  const ofIndex = kind?.toUpperCase() === 'INDEX' ? 'the table of ' : '';
  return [altered?.[1], ...referred, TRIGGER.exec(statement)?.[1], ...dropped.map((it) => ofIndex + it)]
    .filter((table) => table !== undefined)
    .map(unquoted);
}

/** Returns the tables that a migration itself creates. */
const ownTables = (statements: readonly string[]) =>
  new Set(statements.flatMap((it) => CREATE_TABLE.exec(it)?.[1] ?? []).map(unquoted));

/**
 * Matches a default that is the same for every row. With such a default, PostgreSQL adds the column without writing
 * rows.
 */
const CONSTANT_DEFAULT =
  /\bDEFAULT (-?[\d.]+|''|true|false|null|now\(\)|CURRENT_TIMESTAMP(\(\d\))?|ARRAY\[[^\]()]*\])(::[a-z_ ]+?(\([\d, ]+\))?(\[\])?)?( (NOT )?NULL)?$/i;

/**
 * Returns the reason why an action of `ALTER TABLE` reads or writes all rows. Such an action blocks writes for a long
 * time. Returns undefined if the action does not read or write all rows.
 */
function slowAction(action: string): string | undefined {
  if (/^ADD (CONSTRAINT ("[^"]+"|\w+) )?(CHECK|FOREIGN KEY|NOT NULL)\b/i.test(action)) {
    return / NOT VALID$/i.test(action)
      ? undefined
      : 'reads every row: add it NOT VALID, and VALIDATE it in a migration of its own';
  }
  if (/^ADD (CONSTRAINT ("[^"]+"|\w+) )?(UNIQUE|PRIMARY KEY|EXCLUDE)\b/i.test(action)) {
    return / USING INDEX /i.test(action)
      ? undefined
      : 'builds an index: create the index CONCURRENTLY in a migration of its own, then add the constraint USING INDEX';
  }
  if (/^ADD (COLUMN )?/i.test(action) && /\b(CHECK|REFERENCES|UNIQUE|PRIMARY KEY)\b/i.test(action)) {
    return 'reads every row: first add only the column, then its constraint NOT VALID';
  }
  if (
    /^ADD (COLUMN )?/i.test(action) &&
    (/\b((BIG|SMALL)?SERIAL|GENERATED)\b/i.test(action) ||
      (/\bDEFAULT\b/i.test(action) && !CONSTANT_DEFAULT.test(action)))
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
 * @returns one sentence for each violation of the rules. Tables that the migration itself creates are still empty, so
 * the migration may change them in any way.
 */
export function brokenRules(sql: string): readonly string[] {
  const whole = statementsOf(sql);
  const statements = whole.map(({ bare }) => bare);
  const faults: string[] = [];
  const alone = statements.length === 1;
  const own = ownTables(statements);
  const isOwn = (table: string | undefined) => own.has(unquoted(table ?? ''));
  for (const { text, bare: statement } of whole) {
    const index = CREATE_INDEX.exec(statement);
    const altered = ALTER_TABLE.exec(statement);
    if (TRANSACTION.test(statement)) {
      faults.push(
        `${statement}: a migration already is one transaction, and cannot begin or end another one.`,
      );
    }
    if (commitsInside({ text, bare: statement })) {
      if (!alone)
        faults.push(`${statement}: COMMIT works only if this is the only statement of the migration.`);
      if (!/^-- Idempotent\b/m.test(text)) {
        faults.push(
          `${statement}: it commits in batches, so it must be safe to run again: state why in a comment "-- Idempotent: ..." above it.`,
        );
      }
    }
    if (/^(CREATE|DROP|REINDEX)\b.*\bCONCURRENTLY\b/i.test(statement) && !alone) {
      faults.push(`${statement}: CONCURRENTLY works only if this is the only statement of the migration.`);
    }
    if (/^CREATE\b.*\bCONCURRENTLY IF NOT EXISTS\b/i.test(statement)) {
      faults.push(`${statement}: IF NOT EXISTS would accept the INVALID index of a failed attempt.`);
    }
    if (index !== null && index[1] === undefined && !isOwn(index[4])) {
      faults.push(`${statement}: it blocks writes: create it CONCURRENTLY, in a migration of its own.`);
    }
    if (/^DROP INDEX CONCURRENTLY (?!IF EXISTS\b)/i.test(statement)) {
      faults.push(
        `${statement}: if it is killed before its record is written, it fails forever when it runs again: add IF EXISTS.`,
      );
    }
    if (/^REINDEX\b/i.test(statement)) {
      faults.push(
        `${statement}: if it is interrupted, it leaves INVALID copies: create a new index CONCURRENTLY, and drop the old one.`,
      );
    }
    if (/^(CLUSTER\b|VACUUM\b.*\bFULL\b)/i.test(statement)) {
      faults.push(`${statement}: it rewrites the table, and blocks reads and writes meanwhile.`);
    }
    if (/^LOCK\b/i.test(statement)) {
      faults.push(
        `${statement}: it blocks others until the migration ends: let each statement take its own lock.`,
      );
    }
    if (altered !== null && !VALIDATE.test(statement) && !isOwn(altered[1])) {
      for (const action of actionsOf(altered[2] ?? '')) {
        const slow = slowAction(action);
        if (slow !== undefined) faults.push(`${action}: it ${slow}.`);
      }
    }
  }
  if (statements.some((it) => VALIDATE.test(it)) && !statements.every((it) => VALIDATE.test(it))) {
    faults.push('VALIDATE CONSTRAINT reads every row: put it into a migration with nothing else.');
  }
  const locked = lockedInUse(statements, own);
  if (locked.length > 1 && !isForeignKeyAlone(statements)) {
    faults.push(
      `${locked.join(', ')}: writes to the first table wait until the migration gets its last lock: lock only one table in use per migration.`,
    );
  }
  if (locked.length > 0) {
    for (const statement of statements.filter((it) => READS_ROWS.test(it))) {
      faults.push(
        `${statement}: it reads or writes rows while another statement, such as an ALTER TABLE, holds a lock: put it into a migration of its own.`,
      );
    }
  }
  return faults;
}

/** Returns the tables in use that are locked by the statements of one migration. */
const lockedInUse = (statements: readonly string[], own: ReadonlySet<string>) => [
  ...new Set(statements.flatMap(lockedTables).filter((table) => !own.has(table))),
];

/** True if the migration only adds one foreign key. It may lock two tables in use, because this cannot be avoided. */
function isForeignKeyAlone([statement = '', ...others]: readonly string[]): boolean {
  const [, , actions = ''] = ALTER_TABLE.exec(statement) ?? [];
  return others.length === 0 && FOREIGN_KEY.test(statement) && actionsOf(actions).length === 1;
}

/** A part of a new migration that was split. The part becomes a separate migration. */
export interface SplitMigration {
  /** The end of the migration's folder name, after the name that the developer gives. */
  readonly suffix: string;
  readonly sql: string;
}

/**
 * Splits SQL that Prisma generated into several migrations, so that each migration obeys the rules. SQL that needs a
 * developer's decision is left unchanged.
 */
export function splitByRules(sql: string): readonly SplitMigration[] {
  const statements = statementsOf(sql);
  const bares = statements.map(({ bare }) => bare);
  const own = ownTables(bares);
  const indexOf = (bare: string) => {
    const [, , , index, table] = CREATE_INDEX.exec(bare) ?? [];
    return table === undefined || own.has(unquoted(table)) ? undefined : index;
  };
  const whole = !bares.some(indexOf) && lockedInUse(bares, own).length <= 1;
  // If foreign keys are in a later migration than their tables, the rules treat these tables as tables in use.
  const ownAtKeys: ReadonlySet<string> = whole ? own : new Set();
  const rest: Statement[] = [];
  const indexes: SplitMigration[] = [];
  const foreignKeys: Statement[] = [];
  const validations: string[] = [];
  for (const statement of statements) {
    const { text, bare } = statement;
    const index = indexOf(bare);
    const [, table, constraint] = FOREIGN_KEY.exec(bare) ?? [];
    if (index !== undefined) {
      const concurrent = text.replace(/\bINDEX\b(?= ")/, 'INDEX CONCURRENTLY');
      indexes.push({ suffix: `_${unquoted(index)}`, sql: `${concurrent};\n` });
    } else if (table === undefined || constraint === undefined) {
      rest.push(statement);
    } else if (ownAtKeys.has(unquoted(table))) {
      foreignKeys.push(statement);
    } else {
      foreignKeys.push({ text: `${text} NOT VALID`, bare });
      validations.push(`ALTER TABLE ${table} VALIDATE CONSTRAINT ${constraint};\n`);
    }
  }
  // Indexes come before foreign keys, because a foreign key may refer to columns that a new index makes unique.
  return [
    ...byLockedTable(whole ? [...rest, ...foreignKeys] : rest, own, ''),
    ...indexes,
    ...byLockedTable(whole ? [] : foreignKeys, ownAtKeys, '_foreign_keys'),
    ...(validations.length === 0 ? [] : [{ suffix: '_validated', sql: validations.join('\n') }]),
  ];
}

/**
 * Groups statements into migrations, without changing their order. A new migration starts where a second table in use
 * would be locked.
 */
function byLockedTable(
  statements: readonly Statement[],
  own: ReadonlySet<string>,
  suffix: string,
): readonly SplitMigration[] {
  const groups: Statement[][] = [];
  for (const statement of statements) {
    const last = groups.at(-1);
    const together = [...(last ?? []), statement].map(({ bare }) => bare);
    if (last !== undefined && lockedInUse(together, own).length <= 1) last.push(statement);
    else groups.push([statement]);
  }
  return groups.map((group, index) => ({
    suffix: index === 0 ? suffix : `${suffix}_${index + 1}`,
    sql: group.map(({ text }) => `${text};\n`).join('\n'),
  }));
}
