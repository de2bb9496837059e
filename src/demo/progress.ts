const PLAIN_EVERY_MS = 5_000;

/** Prints lines, and below them a status line. A terminal rewrites the status line; other outputs get it every 5 s. */
export class Progress {
  readonly #out: NodeJS.WriteStream;
  #live = '';
  #plainAt = 0;

  constructor(out: NodeJS.WriteStream = process.stdout) {
    this.#out = out;
  }

  /** Prints a permanent line. */
  say(line: string): void {
    this.#clear();
    this.#out.write(`${line}\n`);
    this.#draw();
  }

  /** Updates the status line. */
  show(line: string): void {
    if (this.#out.isTTY) {
      this.#clear();
      this.#live = line.slice(0, (this.#out.columns || 80) - 1);
      this.#draw();
    } else if (Date.now() >= this.#plainAt) {
      this.#plainAt = Date.now() + PLAIN_EVERY_MS;
      this.#out.write(`${line}\n`);
    }
  }

  /** Ends the status line and leaves its last text in place. */
  end(): void {
    if (this.#live !== '') this.#out.write('\n');
    this.#live = '';
  }

  #clear(): void {
    if (this.#live !== '') this.#out.write('\r\x1b[2K');
  }

  #draw(): void {
    if (this.#live !== '') this.#out.write(this.#live);
  }
}
