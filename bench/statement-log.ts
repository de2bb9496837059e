import { readFileSync, statSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Connection } from '../src/ledger/connection.ts';

/** Of the connections of the bench, which it does not count. */
export const APPLICATION_NAME = 'nodrop-bench';

/** A statement as PostgreSQL ran it. */
export interface Statement {
  /** Of the backend. */
  readonly pid: number;
  /** Of the connection, such as `nodrop-worker`. */
  readonly application: string;
  readonly text: string;
  /** `$1 = '...', ...`; empty without parameters. */
  readonly parameters: string;
}

const LOOK_EVERY_MS = 20;

/**
 * What PostgreSQL itself says that it ran: its log of all statements. Statements inside functions and triggers are not in
 * it, and BEGIN and COMMIT are.
 */
export class StatementLog {
  readonly #file: string;

  private constructor(file: string) {
    this.#file = file;
  }

  /**
   * Has the server log every statement. It also stops writing whole pages after a checkpoint, so that the bytes of WAL are
   * those of the rows.
   * @param connection of a superuser; used for nothing afterwards
   * @param file where the server's output goes
   */
  static async open(connection: Connection, file: string): Promise<StatementLog> {
    const marker = `select 'statements are logged from here on, ${Date.now()}'`;
    await connection.query("alter system set log_statement = 'all'");
    await connection.query("alter system set log_line_prefix = '@%p|%a|'");
    await connection.query('alter system set full_page_writes = off');
    await connection.query('select pg_reload_conf()');
    const log = new StatementLog(file);
    const from = log.position();
    // The server tells its processes one after the other.
    while (!readFileSync(file).subarray(from).toString('utf8').includes(marker)) {
      await connection.query(marker);
      await sleep(LOOK_EVERY_MS);
    }
    return log;
  }

  /** Where the log ends now, in bytes: a statement is written down before it runs. */
  position(): number {
    return statSync(this.#file).size;
  }

  /**
   * The statements of nodrop's own processes between two positions, without those that depend on the time and not on what
   * is done: see `isByTime`.
   */
  read(from: number, to: number): readonly Statement[] {
    return parse(readFileSync(this.#file).subarray(from, to).toString('utf8')).filter(
      (statement) =>
        /^nodrop-/.test(statement.application) &&
        statement.application !== APPLICATION_NAME &&
        !isByTime(statement),
    );
  }
}

/** @param text of a log whose lines begin with `@pid|application|`; a line that goes on begins with a tab. */
function parse(text: string): readonly Statement[] {
  const found: { pid: number; application: string; text: string; parameters: string }[] = [];
  for (const line of text.replaceAll('\n\t', '\n ').split(/\n(?=@\d+\|)/)) {
    const [, pid = '', application = '', kind = '', said = ''] =
      /^@(\d+)\|([^|]*)\|(\w+):\s+([\s\S]*)$/.exec(line) ?? [];
    const statement = /^(?:statement|execute [^:]*): ([\s\S]*)$/.exec(said.trimEnd())?.[1];
    if (kind === 'LOG' && statement !== undefined) {
      found.push({ pid: Number(pid), application, text: statement, parameters: '' });
    } else if (kind === 'DETAIL') {
      const last = found.findLast((other) => other.pid === Number(pid));
      if (last !== undefined) last.parameters = said.replace(/^Parameters: /i, '').trimEnd();
    }
  }
  return found;
}

/**
 * The API's check of its LISTEN; its read of the account that a callback is for, which it keeps for 60 s for all
 * callbacks of the account; and every process's read of an account's credentials, which it keeps for 30 s.
 */
function isByTime({ application, text, parameters }: Statement): boolean {
  if (parameters.includes("$1 = 'ping/")) return true;
  if (/\bFROM\W+(?:public\W+)?channel_credentials\b/i.test(text)) return true;
  const [, where] = /\bFROM\W+(?:public\W+)?channel_accounts\b.*\bWHERE\b(.*)/is.exec(text) ?? [];
  return application === 'nodrop-api' && where !== undefined && !/merchant_id/i.test(where);
}

/** BEGIN, COMMIT and their like: a trip to the server each, but no work on rows. */
export function isTransactionControl({ text }: Statement): boolean {
  return /^\s*(begin|start|commit|end|rollback|abort|savepoint|release|set)\b/i.test(text);
}

/** Takes a lock that others wait for, and that is not the one of a row that it changes. */
export function takesLock({ text }: Statement): boolean {
  return /\bfor\s+(no\s+key\s+)?update\b|\bfor\s+(key\s+)?share\b|pg_(try_)?advisory|^\s*lock\b/i.test(text);
}
