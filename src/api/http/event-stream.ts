import { createHash } from 'node:crypto';
import type { ServerResponse } from 'node:http';

/** Sends Server-Sent Events to one reader, which may be slow or may disconnect. */

export interface StreamLimits {
  /** Pause between two heartbeats. Heartbeats are needed because proxies and firewalls drop idle connections. */
  readonly heartbeatMs: number;
  /** nodrop disconnects a reader whose send buffer stays full for this time. */
  readonly drainWithinMs: number;
  /**
   * An event stream ends after this time, so that its reader reconnects. A reader with a revoked key is then refused,
   * and the readers are again distributed over all processes.
   */
  readonly lifetimeMs: number;
  /**
   * Maximum number of event streams in a process. It is lower than the maximum of waiting requests, so that some slots
   * are left for requests with `?wait=`.
   */
  readonly atMost: number;
  /** How long a new event stream may wait while many other streams are opening. */
  readonly openWithinMs: number;
}

export const STREAMS: StreamLimits = {
  heartbeatMs: 15_000,
  drainWithinMs: 30_000,
  lifetimeMs: 15 * 60_000,
  atMost: 4_000,
  openWithinMs: 10_000,
};

/**
 * The event stream to one reader. Call `drained` before sending the next state, so that at most one state waits in the
 * send buffer.
 */
export class EventStream {
  readonly #response: ServerResponse;
  readonly #limits: StreamLimits;
  readonly #heartbeat: NodeJS.Timeout;
  #lastId: string | undefined;

  /**
   * Starts the answer.
   * @param lastEventId the id of the state that the reader already has
   * @param onHeartbeat runs before each heartbeat. It may send a state that changed only because time passed, because
   * such a change sends no notification
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
    // Without `X-Accel-Buffering: no`, nginx would delay events until its buffer is full.
    response.writeHead(200, { 'Content-Type': 'text/event-stream', 'X-Accel-Buffering': 'no' });
    // The stream starts with an SSE comment. So the reader knows immediately that it is connected, even without a new
    // state.
    response.write(':\n\n');
    this.#heartbeat = setInterval(() => {
      if (this.#isFull) return;
      onHeartbeat();
      response.write(':\n\n');
    }, limits.heartbeatMs);
  }

  /** Sends a state, unless the reader already has it. */
  push(event: string, state: object): void {
    const data = JSON.stringify(state);
    const id = stateId(data);
    if (id === this.#lastId) return;
    this.#lastId = id;
    this.#response.write(`event: ${event}\nid: ${id}\ndata: ${data}\n\n`);
  }

  /** Resolves when the send buffer has room for the next state. If the reader reads too slowly, it is disconnected. */
  async drained(): Promise<void> {
    if (this.#isFull) await this.#orFallbackWithin((done) => this.#response.once('drain', done));
  }

  /** Ends the stream. Resolves when the reader has received everything or is disconnected. */
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

/**
 * Returns the id of a state, which is a hash of the state. All processes compute the same id, so a reader may reconnect
 * to any process.
 */
export const stateId = (data: string): string =>
  createHash('sha256').update(data).digest('base64url').slice(0, 22);
