import type { Response } from 'express';
import type { Logger } from 'pino';
import type { z } from 'zod';
import { faultsInWords } from '../faults-in-words.ts';

/** A refusal with which the simulator answers a request: `{ code, message }` with an HTTP status. */
export class SimulatorError extends Error {
  override readonly name = 'SimulatorError';
  readonly status: number;
  readonly code: string;

  constructor(status: number, code: string, message: string) {
    super(message);
    this.status = status;
    this.code = code;
  }
}

/**
 * Converts any error to a refusal. A SimulatorError stays as it is and a body parser's error keeps its
 * status. Everything else becomes a 500 that is logged and does not reveal its details.
 */
export function toSimulatorError(error: unknown, logger: Logger): SimulatorError {
  if (error instanceof SimulatorError) return error;
  const { status, type } = error as { status?: unknown; type?: unknown };
  if (type === 'entity.too.large') {
    return new SimulatorError(413, 'BODY_TOO_LARGE', `The body is larger than ${MAX_BODY_BYTES} bytes.`);
  }
  if (type === 'entity.parse.failed') return new SimulatorError(400, 'PARAM_ERROR', 'The body is not JSON.');
  if (typeof status === 'number' && status >= 400 && status < 500) {
    return new SimulatorError(status, 'PARAM_ERROR', (error as Error).message);
  }
  logger.error({ err: error }, 'request failed');
  return new SimulatorError(500, 'SYSTEM_ERROR', 'The simulator failed.');
}

export const MAX_BODY_BYTES = 256 * 1024;

/** Sends an error as a JSON answer without a signature. */
export function sendError(res: Response, error: SimulatorError): void {
  res.status(error.status).json({ code: error.code, message: error.message });
}

/** @throws SimulatorError 400 `PARAM_ERROR` that names the first wrong field. */
export function parseInput<T>(schema: z.ZodType<T>, input: unknown): T {
  const parsed = schema.safeParse(input, { error: faultsInWords });
  if (parsed.success) return parsed.data;
  const issue = parsed.error.issues[0];
  throw new SimulatorError(400, 'PARAM_ERROR', `${issue?.path.join('.') || 'body'}: ${issue?.message}`);
}
