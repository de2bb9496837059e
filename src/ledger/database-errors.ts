/**
 * This file distinguishes an unavailable database from an internal error. A retry helps only if the database is
 * unavailable.
 */

const PRISMA_CODES = new Set([
  ...['P1000', 'P1001', 'P1002', 'P1003', 'P1008', 'P1010', 'P1011', 'P1017'],
  // P2021, "table does not exist": the migrations have not run yet.
  ...['P2021', 'P2024', 'P2028', 'P2034', 'P2037'],
]);
const ADAPTER_KINDS = new Set([
  ...[
    'DatabaseNotReachable',
    'ConnectionClosed',
    'SocketTimeout',
    'TooManyConnections',
    'TlsConnectionError',
  ],
  ...['DatabaseDoesNotExist', 'DatabaseAccessDenied', 'AuthenticationFailed', 'TransactionWriteConflict'],
  'TableDoesNotExist',
]);
const SOCKET_CODES = new Set([
  ...[
    'ECONNREFUSED',
    'ECONNRESET',
    'ETIMEDOUT',
    'EPIPE',
    'ENOTFOUND',
    'EAI_AGAIN',
    'EHOSTUNREACH',
    'ENETUNREACH',
  ],
]);
/**
 * SQLSTATEs that mean an unavailable database: connection lost (08), out of resources (53), shutting down or timed out
 * (57), failing disks (58), transaction conflicts (40001, 40P01, 55P03), no connections accepted (55000), read-only
 * standby (25006).
 */
const SQL_STATES = /^(08...|53...|57...|58...|40001|40P01|55000|55P03|25006)$/;
/** Errors from `pg` with these messages carry no code. */
const MESSAGES =
  /^(Connection terminated|timeout exceeded when trying to connect|timeout expired|Query read timeout|Client has encountered a connection error)/;

interface Failure {
  readonly code?: unknown;
  readonly kind?: unknown;
  readonly originalCode?: unknown;
  readonly message?: unknown;
  readonly cause?: unknown;
  readonly meta?: { readonly driverAdapterError?: unknown };
}

/** True when the error means that the database cannot be reached, is not ready, or timed out. */
export function isDatabaseUnavailable(error: unknown): boolean {
  return failuresIn(error).some(
    ({ code, kind, originalCode, message }) =>
      (typeof code === 'string' &&
        (PRISMA_CODES.has(code) || SOCKET_CODES.has(code) || SQL_STATES.test(code))) ||
      (typeof originalCode === 'string' && SQL_STATES.test(originalCode)) ||
      (typeof kind === 'string' && ADAPTER_KINDS.has(kind)) ||
      (typeof message === 'string' && MESSAGES.test(message)),
  );
}

/**
 * Maps Prisma's codes, the error kinds of Prisma's adapter, and SQLSTATEs to the reason why the database cannot be
 * used.
 */
const FAULTS = {
  missing: ['P1003', 'DatabaseDoesNotExist', '3D000'],
  refused: ['P1000', 'P1010', 'AuthenticationFailed', 'DatabaseAccessDenied', '28000', '28P01'],
  empty: ['P2021', 'TableDoesNotExist', '42P01'],
} as const;

/**
 * Returns why the database of an `isDatabaseUnavailable` error cannot be used. `missing`: no database has this name.
 * `refused`: the server refuses the user or the password. `empty`: the database has no tables. `unreachable`: it does
 * not answer.
 */
export function databaseFault(error: unknown): keyof typeof FAULTS | 'unreachable' {
  const said = new Set(
    failuresIn(error).flatMap(({ code, kind, originalCode }) => [code, kind, originalCode]),
  );
  const fault = (Object.keys(FAULTS) as (keyof typeof FAULTS)[]).find((one) =>
    FAULTS[one].some((sign) => said.has(sign)),
  );
  return fault ?? 'unreachable';
}

/** SQLSTATEs that mean that all writes are refused: read-only (25006), a full disk (53100), failing disks (58). */
const WRITE_REFUSED = /^(25006|53100|58...)$/;

/** True when the error means that the database currently refuses all writes. */
export function refusesWrites(error: unknown): boolean {
  return failuresIn(error).some((failure) =>
    [failure.code, failure.originalCode].some((code) => typeof code === 'string' && WRITE_REFUSED.test(code)),
  );
}

/** Lists the error and all errors that it wraps. */
function failuresIn(error: unknown): Failure[] {
  if (typeof error !== 'object' || error === null) return [];
  const failure = error as Failure;
  return [failure, ...failuresIn(failure.cause), ...failuresIn(failure.meta?.driverAdapterError)];
}
