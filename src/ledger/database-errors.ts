/**
 * Distinguishes a database that is unavailable now from an internal error. A retry makes sense only if the database is
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
 * SQLSTATEs: connection lost (08), out of resources (53), shutting down or timed out (57), failing disks (58),
 * transaction conflicts (40001, 40P01, 55P03), a database that accepts no connections (55000), a read-only standby
 * (25006).
 */
const SQL_STATES = /^(08...|53...|57...|58...|40001|40P01|55000|55P03|25006)$/;
/** Messages of errors from `pg` that carry no code. */
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

/** Why a database cannot be used, by codes of Prisma, kinds of its adapter, and SQLSTATEs. */
const FAULTS = {
  missing: ['P1003', 'DatabaseDoesNotExist', '3D000'],
  refused: ['P1000', 'P1010', 'AuthenticationFailed', 'DatabaseAccessDenied', '28000', '28P01'],
  empty: ['P2021', 'TableDoesNotExist', '42P01'],
} as const;

/**
 * Why the database of an `isDatabaseUnavailable` error cannot be used: no database has that name (`missing`), its
 * server refuses the user or the password (`refused`), it has no tables (`empty`), or it does not answer
 * (`unreachable`).
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

/** SQLSTATEs: read-only (25006), a full disk (53100), failing disks (58). */
const WRITE_REFUSED = /^(25006|53100|58...)$/;

/** True when the error means that the database currently refuses all writes. */
export function refusesWrites(error: unknown): boolean {
  return failuresIn(error).some((failure) =>
    [failure.code, failure.originalCode].some((code) => typeof code === 'string' && WRITE_REFUSED.test(code)),
  );
}

/** The error and all errors that it wraps. */
function failuresIn(error: unknown): Failure[] {
  if (typeof error !== 'object' || error === null) return [];
  const failure = error as Failure;
  return [failure, ...failuresIn(failure.cause), ...failuresIn(failure.meta?.driverAdapterError)];
}
