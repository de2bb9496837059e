import { randomUUID } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { Connection } from '../src/ledger/connection.ts';
import { atEnd } from './ending.ts';
import type { BenchMerchant, Service } from './service.ts';
import { APPLICATION_NAME } from './statement-log.ts';

/**
 * How often the bench checks whether a payment has succeeded. The check comes half of this interval too late on
 * average, which is short compared to the duration of a payment.
 */
const LOOK_EVERY_MS = 15;
const AGAIN_AFTER_MS = 200;

/** Creates payments over HTTP and pays them. Several payments may run concurrently. */
export class Payments {
  readonly #service: Service;
  readonly #connection: Connection;
  readonly #waiting = new Map<string, () => void>();
  #isClosed = false;
  /** Number of requests that were refused and repeated. */
  refused = 0;

  private constructor(service: Service, connection: Connection) {
    this.#service = service;
    this.#connection = connection;
  }

  static async open(service: Service): Promise<Payments> {
    const connection = new Connection({
      connectionString: service.config.databaseUrl,
      application_name: APPLICATION_NAME,
    });
    await connection.connect();
    const payments = new Payments(service, connection);
    const watching = payments.#watch();
    atEnd(async () => {
      payments.#isClosed = true;
      await watching;
      await connection.end();
    });
    return payments;
  }

  /** Creates a payment and pays it in the simulator's wallet. Resolves when the payment has succeeded. */
  async payOnce({ key }: BenchMerchant): Promise<void> {
    const { api, simulator } = this.#service.config;
    const order = { id: `bench-${randomUUID()}`, amount: 1990, currency: 'CNY', subject: 'Coffee' };
    const created = await this.#post(`${api.publicUrl}/v1/payments`, key, { order, channel: 'simulator' });
    const { id } = created as { id: string };
    const succeeded = new Promise<void>((resolve) => this.#waiting.set(id, resolve));
    await this.#post(`${simulator.url}/pay/${id}`, key, {});
    await succeeded;
  }

  /**
   * Repeats a POST until it is accepted, because on a loaded machine it may be refused, or the trade may not exist yet.
   */
  async #post(url: string, key: string, body: object): Promise<unknown> {
    for (;;) {
      const answer = await fetch(url, {
        method: 'POST',
        headers: { authorization: `Bearer ${key}`, 'content-type': 'application/json' },
        body: JSON.stringify(body),
      });
      const said = await answer.json();
      if (answer.ok) return said;
      if (answer.status < 500 && answer.status !== 404 && answer.status !== 409 && answer.status !== 429)
        throw new Error(
          `POST ${new URL(url).pathname} was answered ${answer.status}: ${JSON.stringify(said)}`,
        );
      this.refused += 1;
      await sleep(AGAIN_AFTER_MS);
    }
  }

  /** Checks all waiting payments with one cheap statement, by primary key. */
  async #watch(): Promise<void> {
    while (!this.#isClosed) {
      await sleep(LOOK_EVERY_MS);
      if (this.#waiting.size === 0) continue;
      const { rows } = await this.#connection.query<{ id: string }>(
        "select id from payments where id = any($1) and status = 'succeeded'",
        [[...this.#waiting.keys()]],
      );
      for (const { id } of rows) {
        this.#waiting.get(id)?.();
        this.#waiting.delete(id);
      }
    }
  }
}
