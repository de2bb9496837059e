import { ConfigError } from '../config.ts';

/**
 * Thrown when the embedded stack cannot start or run. The message says in one sentence what is wrong and how to fix it.
 */
export class StackError extends Error {
  override readonly name = 'StackError';
}

/**
 * Prints an error and ends the process with exit code 1. For an expected error, prints only its message. For any other
 * error, prints the stack trace.
 */
export function exitWith(error: unknown): never {
  const expected = error instanceof StackError || error instanceof ConfigError;
  console.error(expected ? error.message : error);
  process.exit(1);
}

/** Returns the first line of an error's message, so that it can be used inside a sentence. */
export function reason(error: unknown): string {
  return (error instanceof Error ? error.message : String(error)).split('\n')[0] ?? '';
}
