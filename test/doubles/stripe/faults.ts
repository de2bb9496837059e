import { type Answer, json } from './http.ts';

export const FAULTS = [
  '500',
  '500_stored',
  'accepted',
  '429',
  '403',
  '409',
  'nonsense',
  'html',
  'number',
  'redirect',
] as const;
export type FaultKind = (typeof FAULTS)[number];

/** A fault of the next `times` requests. */
export interface FaultOrder {
  readonly kind: FaultKind;
  /** The fault applies to requests whose method and address contain this text, such as `POST /v1/refunds`. */
  readonly of: string;
  readonly times: number;
}

interface Fault {
  /**
   * With `stored`, the fault is the result of the request and is stored under the idempotency key. With `after`, the
   * request is carried out first.
   */
  readonly when: 'before' | 'stored' | 'after';
  readonly answer: Answer | 'hang';
}

const error = (status: number, type: string, message: string, code?: string) =>
  json(status, { error: { type, message, ...(code === undefined ? {} : { code }) } });

const MADE: Readonly<Record<FaultKind, Fault>> = {
  '500': { when: 'before', answer: error(500, 'api_error', 'An unknown error occurred') },
  '500_stored': { when: 'stored', answer: error(500, 'api_error', 'An unknown error occurred') },
  accepted: { when: 'after', answer: 'hang' },
  '429': {
    when: 'before',
    answer: {
      ...error(429, 'invalid_request_error', 'Too many requests', 'rate_limit'),
      headers: { 'retry-after': '2' },
    },
  },
  '403': {
    when: 'before',
    answer: error(403, 'invalid_request_error', 'The provided key does not have access'),
  },
  '409': {
    when: 'before',
    answer: error(409, 'invalid_request_error', 'Another request has this key', 'idempotency_key_in_use'),
  },
  nonsense: { when: 'before', answer: json(200, { id: 17, object: 'teapot' }) },
  html: { when: 'before', answer: { status: 200, body: '<html>', type: 'text/html' } },
  number: { when: 'before', answer: json(200, 0) },
  redirect: {
    when: 'before',
    answer: { status: 302, body: '', headers: { location: 'http://127.0.0.1:9/elsewhere' } },
  },
};

export class Faults {
  #orders: { kind: FaultKind; of: string; times: number }[] = [];

  set(orders: readonly FaultOrder[]): void {
    this.#orders = orders.map((order) => ({ ...order }));
  }

  take(method: string, address: string): Fault | undefined {
    const order = this.#orders.find(({ of, times }) => times > 0 && `${method} ${address}`.includes(of));
    if (order === undefined) return undefined;
    order.times -= 1;
    return MADE[order.kind];
  }
}
