const PLAIN_EVERY_MS = 5_000;

/** Lines that stay, and on a terminal one line beneath them that is rewritten; elsewhere that one appears every 5 s. */
export class Progress {
  readonly #out: NodeJS.WriteStream;
  #live = '';
  #plainAt = 0;

  constructor(out: NodeJS.WriteStream = process.stdout) {
    this.#out = out;
  }

  /** Writes a line that stays. */
  say(line: string): void {
    this.#clear();
    this.#out.write(`${line}\n`);
    this.#draw();
  }

  /** Shows how things are now. */
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

  /** Leaves the last state of the rewritten line where it is. */
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
