import { type Answer, json } from './http.ts';

/**
 * Idempotency keys as Stripe keeps them (https://docs.stripe.com/api/idempotent_requests): what ran is stored, whatever came
 * of it, until it is pruned.
 */
export class Keys {
  readonly #stored = new Map<string, { readonly request: string; readonly answer: Answer }>();

  /** The stored answer to this request, or that of `perform`, which is stored unless it never began. */
  once(key: string, request: string, perform: () => Answer): Answer {
    const stored = this.#stored.get(key);
    if (stored !== undefined && stored.request !== request) {
      const message = `Keys for idempotent requests can only be used with the same parameters they were first used with. Try using a key other than '${key}'.`;
      return json(400, { error: { type: 'idempotency_error', message } });
    }
    if (stored !== undefined) {
      return { ...stored.answer, headers: { ...stored.answer.headers, 'idempotent-replayed': 'true' } };
    }
    const answer = perform();
    if (answer.neverRan !== true) this.#stored.set(key, { request, answer });
    return answer;
  }

  prune(): void {
    this.#stored.clear();
  }
}
