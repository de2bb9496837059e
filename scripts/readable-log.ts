import { inspect } from 'node:util';

/** Names of pino's numeric log levels. */
const LEVELS: Readonly<Record<number, string>> = {
  10: 'TRACE',
  20: 'DEBUG',
  30: 'INFO',
  40: 'WARN',
  50: 'ERROR',
  60: 'FATAL',
};

/**
 * Fields that are not printed as key=value. Some of them never change during the life of a process. The others are
 * printed elsewhere in the line.
 */
const LEFT_OUT = new Set(['level', 'time', 'pid', 'hostname', 'name', 'msg', 'err', 'req', 'res']);

/**
 * Formats a JSON log line for people: `08:15:30.123 INFO  api     answered POST /v1/payments 201 requestId=... ms=12`,
 * followed by the stack of an error. Times are local. For a line that is not from pino, only adds the process's name at
 * the start.
 */
export function readable(name: string, line: string): string {
  const entry = parse(line);
  if (entry === undefined) return `${' '.repeat(18)} ${name.padEnd(9)} ${line}`;
  const { level, time, msg, err, req, res } = entry;
  const date = new Date(Number(time));
  const clock = [date.getHours(), date.getMinutes(), date.getSeconds()].map((part) => pad(part, 2)).join(':');
  const fields = Object.entries(entry)
    .filter(([key]) => !LEFT_OUT.has(key))
    .map(
      ([key, value]) =>
        `${key}=${typeof value === 'string' ? value : inspect(value, { breakLength: Infinity })}`,
    );
  const words = [
    `${clock}.${pad(date.getMilliseconds(), 3)}`,
    (LEVELS[Number(level)] ?? String(level)).padEnd(5),
    name.padEnd(9),
    String(msg ?? ''),
    ...(isRecord(req) ? [`${req.method} ${req.url}`] : []),
    ...(isRecord(res) ? [String(res.statusCode)] : []),
    ...fields,
  ];
  const stack = isRecord(err) ? `\n${err.stack ?? err.message}` : '';
  return words.filter((word) => word !== '').join(' ') + stack;
}

const pad = (value: number, digits: number) => String(value).padStart(digits, '0');

function parse(line: string): Record<string, unknown> | undefined {
  if (!line.startsWith('{')) return undefined;
  try {
    const entry: unknown = JSON.parse(line);
    return isRecord(entry) && 'level' in entry && 'time' in entry ? entry : undefined;
  } catch {
    return undefined;
  }
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null;
}
