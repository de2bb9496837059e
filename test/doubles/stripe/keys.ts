import { type Answer, json } from './http.ts';

const KEPT_FOR_S = 24 * 60 * 60;

/**
 * Idempotency keys as Stripe stores them (https://docs.stripe.com/api/idempotent_requests). If the endpoint ran, the
 * result of the request is stored for 24 h, or until `prune` deletes it.
 */
export class Keys {
  readonly #now: () => number;
  readonly #stored = new Map<
    string,
    { readonly request: string; readonly answer: Answer; readonly at: number }
  >();

  /** @param now epoch seconds */
  constructor(now: () => number) {
    this.#now = now;
  }

  /**
   * Returns the stored answer to this request. If no answer is stored, returns the answer of `perform`, and stores it
   * if the endpoint ran.
   */
  once(key: string, request: string, perform: () => Answer): Answer {
    const at = this.#now();
    const kept = this.#stored.get(key);
    const stored = kept !== undefined && at - kept.at < KEPT_FOR_S ? kept : undefined;
    if (stored !== undefined && stored.request !== request) {
      const message = `Keys for idempotent requests can only be used with the same parameters they were first used with. Try using a key other than '${key}'.`;
      return json(400, { error: { type: 'idempotency_error', message } });
    }
    if (stored !== undefined) {
      return { ...stored.answer, headers: { ...stored.answer.headers, 'idempotent-replayed': 'true' } };
    }
    const answer = perform();
    if (answer.neverRan !== true) this.#stored.set(key, { request, answer, at });
    return answer;
  }

  prune(): void {
    this.#stored.clear();
  }
}
