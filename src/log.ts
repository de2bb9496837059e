import { pino } from 'pino';

export type Logger = ReturnType<typeof createLogger>;

/** One JSON line an event on stdout; keys and tokens never appear in it. */
export function createLogger(name: string, level: string) {
  return pino({
    name,
    level,
    redact: {
      paths: ['req.headers.authorization', 'req.headers.cookie', 'req.headers["idempotency-key"]'],
      censor: '[redacted]',
    },
  });
}
