import { ConfigError } from '../config.ts';

/** Something the embedded stack needs is missing or in the way. The message is one sentence with the mend. */
export class StackError extends Error {
  override readonly name = 'StackError';
}

/** Ends the process with exit code 1: expected errors print their sentence alone, any other its stack trace. */
export function exitWith(error: unknown): never {
  const expected = error instanceof StackError || error instanceof ConfigError;
  console.error(expected ? error.message : error);
  process.exit(1);
}

/** The first line of an error's message, for use inside a sentence. */
export function reason(error: unknown): string {
  return (error instanceof Error ? error.message : String(error)).split('\n')[0] ?? '';
}
