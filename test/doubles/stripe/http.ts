export interface Answer {
  readonly status: number;
  readonly body: string;
  readonly type?: string;
  readonly headers?: Readonly<Record<string, string>>;
  /** Refused before its endpoint ran: such an answer is not kept under a key. */
  readonly neverRan?: boolean;
}

export const json = (status: number, body: unknown): Answer => ({ status, body: JSON.stringify(body) });

/** What came in, for tests that look at requests. */
export interface ReadPayment {
  readonly method: string;
  readonly path: string;
  readonly key: string | undefined;
  readonly version: string | undefined;
  readonly body: string;
}
