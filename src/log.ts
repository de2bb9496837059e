import { pino } from 'pino';

export type Logger = ReturnType<typeof createLogger>;

/** Creates a logger that writes one JSON line per event to stdout. Keys and tokens in request headers are redacted. */
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
