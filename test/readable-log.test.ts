import { expect, test } from 'vitest';
import { readable } from '../scripts/readable-log.ts';

/** Tests how `npm run dev` prints the log lines of pino. */

const line = (entry: object) =>
  JSON.stringify({
    level: 30,
    time: new Date(2026, 0, 2, 3, 4, 5, 6).getTime(),
    pid: 1,
    hostname: 'h',
    name: 'api',
    ...entry,
  });

test('a readable log line has a time, a level, a program, a message and fields', () => {
  expect(readable('worker', line({ channels: ['simulator'], msg: 'worker ready' }))).toBe(
    "03:04:05.006 INFO  worker    worker ready channels=[ 'simulator' ]",
  );
});

test('the readable log shows a request as method, path and status', () => {
  const req = { method: 'GET', url: '/v1/orders/1', remoteAddress: '127.0.0.1' };
  expect(readable('api', line({ level: 40, req, res: { statusCode: 404 }, ms: 3, msg: 'answered' }))).toBe(
    '03:04:05.006 WARN  api       answered GET /v1/orders/1 404 ms=3',
  );
});

test('the readable log shows the stack after an error', () => {
  expect(
    readable('api', line({ level: 50, err: { message: 'no', stack: 'Error: no\n    at x' }, msg: 'failed' })),
  ).toBe('03:04:05.006 ERROR api       failed\nError: no\n    at x');
});

test.each(['Error: not JSON', '{"level"', '{"some":"JSON"}'])(
  'a line that is not from pino is not changed: %s',
  (text) => {
    expect(readable('api', text)).toMatch(new RegExp(`^ +api +${text.replaceAll(/[{}"]/g, '.')}$`));
  },
);
