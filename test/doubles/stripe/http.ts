export interface Answer {
  readonly status: number;
  readonly body: string;
  readonly type?: string;
  readonly headers?: Readonly<Record<string, string>>;
  /** The request was refused before the endpoint ran. Such an answer is not stored under an idempotency key. */
  readonly neverRan?: boolean;
}

export const json = (status: number, body: unknown): Answer => ({ status, body: JSON.stringify(body) });

/** A request that the double received, for tests that check requests. */
export interface ReadPayment {
  readonly method: string;
  readonly path: string;
  readonly key: string | undefined;
  readonly version: string | undefined;
  readonly body: string;
}
