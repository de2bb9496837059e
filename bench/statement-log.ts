import { readFileSync, statSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Connection } from '../src/ledger/connection.ts';

/** Application name of the bench's own connections, whose statements are not counted. */
export const APPLICATION_NAME = 'nodrop-bench';

/** A statement in PostgreSQL's log. */
export interface Statement {
  /** Process id of the backend. */
  readonly pid: number;
  /** Application name of the connection, for example `nodrop-worker`. */
  readonly application: string;
  readonly text: string;
  /** The parameters in the form `$1 = '...', ...`; empty without parameters. */
  readonly parameters: string;
}

const LOOK_EVERY_MS = 20;

/**
 * Reads PostgreSQL's log of all statements. It contains BEGIN and COMMIT, but no statements inside functions and
 * triggers.
 */
export class StatementLog {
  readonly #file: string;

  private constructor(file: string) {
    this.#file = file;
  }

  /**
   * Makes the server log every statement. Also turns off full-page writes, because the measured bytes of WAL must not
   * include whole pages.
   * @param connection a superuser's connection; only this call uses it
   * @param file the file that the server's output goes to
   */
  static async open(connection: Connection, file: string): Promise<StatementLog> {
    const marker = `select 'statements are logged from here on, ${Date.now()}'`;
    await connection.query("alter system set log_statement = 'all'");
    await connection.query("alter system set log_line_prefix = '@%p|%a|'");
    await connection.query('alter system set full_page_writes = off');
    await connection.query('select pg_reload_conf()');
    const log = new StatementLog(file);
    const from = log.position();
    // Waits until each process of the server has reloaded the settings, because they reload one after the other.
    while (!readFileSync(file).subarray(from).toString('utf8').includes(marker)) {
      await connection.query(marker);
      await sleep(LOOK_EVERY_MS);
    }
    return log;
  }

  /** The current size of the log, in bytes. A statement is logged before it runs. */
  position(): number {
    return statSync(this.#file).size;
  }

  /**
   * Reads the statements of nodrop's processes between two positions of the log. Leaves out statements whose number
   * depends on time and not on work (see `isByTime`).
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

/** @param text of a log whose entries begin with `@pid|application|`; continuation lines begin with a tab. */
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
 * True for statements that run once per time interval. These are the API's check of its LISTEN, the API's read of a
 * callback's account (cached for 60 s), and each process's read of an account's credentials (cached for 30 s).
 */
function isByTime({ application, text, parameters }: Statement): boolean {
  if (parameters.includes("$1 = 'ping/")) return true;
  if (/\bFROM\W+(?:public\W+)?channel_credentials\b/i.test(text)) return true;
  const [, where] = /\bFROM\W+(?:public\W+)?channel_accounts\b.*\bWHERE\b(.*)/is.exec(text) ?? [];
  return application === 'nodrop-api' && where !== undefined && !/merchant_id/i.test(where);
}

/** True for BEGIN, COMMIT and similar statements, which need a round trip but do not touch rows. */
export function isTransactionControl({ text }: Statement): boolean {
  return /^\s*(begin|start|commit|end|rollback|abort|savepoint|release|set)\b/i.test(text);
}

/** True for a statement that explicitly locks rows or a table, or that takes an advisory lock. */
export function takesLock({ text }: Statement): boolean {
  return /\bfor\s+(no\s+key\s+)?update\b|\bfor\s+(key\s+)?share\b|pg_(try_)?advisory|^\s*lock\b/i.test(text);
}
