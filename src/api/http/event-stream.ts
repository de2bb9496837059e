import { createHash } from 'node:crypto';
import type { ServerResponse } from 'node:http';

/** Server-Sent Events over one response, for readers of which some are slow and some are gone. */

export interface StreamLimits {
  /** Proxies and firewalls forget connections on which nothing happens. */
  readonly heartbeatMs: number;
  /** How long a reader may leave its connection full before it is cut. */
  readonly drainWithinMs: number;
  /** A stream ends after this and its reader comes again: so a revoked key and an uneven load do not stay. */
  readonly lifetimeMs: number;
  /** So many in a process: fewer than may wait for changes, so that `?wait=` keeps some. */
  readonly atMost: number;
  /** How long one that comes with many others waits for its turn to open. */
  readonly openWithinMs: number;
}

export const STREAMS: StreamLimits = {
  heartbeatMs: 15_000,
  drainWithinMs: 30_000,
  lifetimeMs: 15 * 60_000,
  atMost: 4_000,
  openWithinMs: 10_000,
};

/** One reader. What it has not taken yet is bounded: `send` comes back when there is room for the next state. */
export class EventStream {
  readonly #response: ServerResponse;
  readonly #limits: StreamLimits;
  readonly #heartbeat: NodeJS.Timeout;
  #lastId: string | undefined;

  /**
   * Begins the answer.
   * @param lastEventId what the reader has already
   * @param onHeartbeat runs before each heartbeat, to send what has changed by time alone
   */
  constructor(
    response: ServerResponse,
    lastEventId: string | undefined,
    limits: StreamLimits,
    onHeartbeat: () => void,
  ) {
    this.#response = response;
    this.#limits = limits;
    this.#lastId = lastEventId;
    // `X-Accel-Buffering`: nginx would collect events until its buffer is full.
    response.writeHead(200, { 'Content-Type': 'text/event-stream', 'X-Accel-Buffering': 'no' });
    // So that the reader knows at once that it is connected, though there may be nothing it does not have.
    response.write(':\n\n');
    this.#heartbeat = setInterval(() => {
      if (this.#isFull) return;
      onHeartbeat();
      response.write(':\n\n');
    }, limits.heartbeatMs);
  }

  /** Sends a state, unless it is the one the reader has. */
  push(event: string, state: object): void {
    const data = JSON.stringify(state);
    const id = stateId(data);
    if (id === this.#lastId) return;
    this.#lastId = id;
    this.#response.write(`event: ${event}\nid: ${id}\ndata: ${data}\n\n`);
  }

  /** Resolves when there is room for the next state; a reader that makes none in time is cut. */
  async drained(): Promise<void> {
    if (this.#isFull) await this.#orFallbackWithin((done) => this.#response.once('drain', done));
  }

  /** Ends the stream; resolves when the reader has everything or is gone. */
  async end(): Promise<void> {
    clearInterval(this.#heartbeat);
    await this.#orFallbackWithin((done) => this.#response.end(done));
  }

  get #isFull(): boolean {
    return this.#response.writableNeedDrain;
  }

  async #orFallbackWithin(begin: (done: () => void) => void): Promise<void> {
    const response = this.#response;
    if (response.closed) return;
    await new Promise<void>((resolve) => {
      const timer = setTimeout(() => response.destroy(), this.#limits.drainWithinMs);
      const done = () => {
        clearTimeout(timer);
        response.off('close', done);
        resolve();
      };
      response.once('close', done);
      begin(done);
    });
  }
}

/** The same for the same state, whichever process sends it: a reader may resume at any of them. */
export const stateId = (data: string): string =>
  createHash('sha256').update(data).digest('base64url').slice(0, 22);
