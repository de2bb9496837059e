import { type FileHandle, open, readFile, rename } from 'node:fs/promises';
import { dirname } from 'node:path';
import { privateFolder } from '../private-folder.ts';

/**
 * An append-only file of JSON lines. Entries wait in memory and are written in groups. One fsync covers all entries
 * that arrived during the previous fsync. So an answer that must be durable does not need its own fsync.
 */
export class Journal {
  readonly #file: FileHandle;
  readonly #waiting: string[] = [];
  /** The latest write to the journal. After a write has failed, every later write also fails. */
  #written: Promise<void> = Promise.resolve();
  #next: Promise<void> | undefined;

  private constructor(file: FileHandle) {
    this.#file = file;
  }

  /**
   * Replays the journal at `path`. Then calls `snapshot`, and replaces the journal's content with the returned entries.
   * @throws Error if a line cannot be read, unless it is an unfinished last line.
   */
  static async open(
    path: string,
    replay: (entry: unknown) => void,
    snapshot: () => Iterable<unknown>,
  ): Promise<Journal> {
    privateFolder(dirname(path));
    for (const entry of entriesOf(await readIfExists(path), path)) replay(entry);

    const draft = `${path}.new`;
    const file = await open(draft, 'w', 0o600);
    const lines = Array.from(snapshot(), (entry) => `${JSON.stringify(entry)}\n`);
    await file.appendFile(lines.join(''));
    await file.sync();
    await rename(draft, path);
    // The folder is synced as well. Otherwise a power cut could undo the rename.
    const folder = await open(dirname(path), 'r');
    await folder.sync();
    await folder.close();
    return new Journal(file);
  }

  /** Queues an entry. It is durable once a later call of `durable()` has resolved. */
  append(entry: unknown): void {
    this.#waiting.push(`${JSON.stringify(entry)}\n`);
  }

  /**
   * Resolves when all entries that were appended so far are on disk and survive `kill -9`.
   * @throws the file system's error. After one error, every later call throws that error.
   */
  durable(): Promise<void> {
    if (this.#waiting.length === 0) return this.#written;
    this.#next ??= this.#written.then(() => {
      this.#next = undefined;
      this.#written = this.#write(this.#waiting.splice(0).join(''));
      return this.#written;
    });
    return this.#next;
  }

  async close(): Promise<void> {
    await this.durable();
    await this.#file.close();
  }

  async #write(lines: string): Promise<void> {
    await this.#file.appendFile(lines);
    await this.#file.datasync();
  }
}

async function readIfExists(path: string): Promise<Buffer> {
  try {
    return await readFile(path);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return Buffer.alloc(0);
    throw error;
  }
}

/**
 * Returns the complete lines. If the process died during a write, the journal may end with an incomplete line. The
 * simulator had not answered the request of that line.
 */
function* entriesOf(content: Buffer, path: string): Generator<unknown> {
  let start = 0;
  for (let end = content.indexOf(10); end !== -1; end = content.indexOf(10, start)) {
    try {
      yield JSON.parse(content.toString('utf8', start, end));
    } catch (cause) {
      throw new Error(`${path} is damaged at byte ${start}: move it away to start with an empty ledger.`, {
        cause,
      });
    }
    start = end + 1;
  }
}
