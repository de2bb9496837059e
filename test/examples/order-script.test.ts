import { readFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import { eventually } from '../support/stack.ts';

// Tests the script of the shop's order page, on a simulated page with a simulated clock.

const SCRIPT = readFileSync(new URL('../../examples/shop/order.js', import.meta.url), 'utf8');
const AsyncFunction = Object.getPrototypeOf(async () => {}).constructor;

test('if the connection of a request dies silently, the request times out and the page asks the shop again', async () => {
  const asked: { readonly path: string; readonly timeoutMs: number; readonly timeOut: () => void }[] = [];
  const page = {
    visibilityState: 'visible',
    querySelector: (selector: string) => (selector === '.notice' ? null : { getAttribute: () => 'order-1' }),
    getElementById: () => null,
    addEventListener: () => undefined,
  };
  const pending = new Map<AbortSignal, number>();
  const globals = {
    document: page,
    location: { pathname: '/orders/order-1' },
    AbortSignal: {
      timeout(ms: number) {
        const { signal } = new AbortController();
        pending.set(signal, ms);
        return signal;
      },
    },
    setTimeout: (resolve: () => void) => setImmediate(resolve),
    // Only the second request for the revision gets an answer. All other requests hang.
    fetch: (path: string, { signal }: { signal?: AbortSignal } = {}) =>
      new Promise((resolve, reject) => {
        const timeoutMs = signal === undefined ? Number.POSITIVE_INFINITY : (pending.get(signal) ?? 0);
        asked.push({ path, timeoutMs, timeOut: () => reject(new DOMException('', 'TimeoutError')) });
        if (asked.length === 2) resolve({ ok: true, json: async () => ({ revision: 7 }) });
      }),
  };
  new AsyncFunction(...Object.keys(globals), SCRIPT)(...Object.values(globals));

  await eventually(() => asked.length === 1);
  asked[0]?.timeOut();
  // The script repeats the request, gets the answer, and then requests the page. The test waits for each of these
  // steps.
  await eventually(() => asked.length === 3);
  asked[2]?.timeOut();
  await eventually(() => asked.length === 4);
  const revision = '/orders/order-1/revision?seen=';
  expect(asked.map(({ path }) => path)).toEqual([revision, revision, '/orders/order-1', revision]);
  // This timeout is longer than the time for which the shop may hold an answer.
  expect(asked.map(({ timeoutMs }) => timeoutMs)).toEqual(Array(4).fill(35_000));
});
