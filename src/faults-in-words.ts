import type { z } from 'zod';

/**
 * Writes error messages for values that a schema rejects. A message completes a sentence that begins with the field,
 * for example "must be a string". Pass this function as `error` to `safeParse`. If the schema has its own message, Zod
 * uses that message. If neither has a message, Zod uses its default message.
 */
export const faultsInWords: z.core.$ZodErrorMap = (issue) => {
  switch (issue.code) {
    case 'invalid_type':
      return issue.input === undefined ? 'is required' : TYPES[issue.expected];
    case 'invalid_value':
      return issue.values.length === 1
        ? `must be ${String(issue.values[0])}`
        : `must be one of ${issue.values.join(', ')}`;
    case 'too_small':
      return bound(issue.origin, issue.minimum, 'or more');
    case 'too_big':
      return bound(issue.origin, issue.maximum, 'at most');
    case 'unrecognized_keys': {
      const known = knownKeys(issue.inst);
      return known.length === 0
        ? 'is not a known field'
        : `is not a known field: known are ${known.join(', ')}`;
    }
    default:
      return undefined;
  }
};

const TYPES: Readonly<Record<string, string>> = {
  string: 'must be a string',
  number: 'must be a number',
  int: 'must be a whole number',
  boolean: 'must be true or false',
  object: 'must be a JSON object',
  record: 'must be a JSON object',
  array: 'must be an array',
};

/** The unit in which a size limit of a type counts, for example characters for a string. */
const COUNTED: Readonly<Record<string, string>> = { string: 'character', array: 'entry', set: 'entry' };

function bound(origin: string, value: number | bigint, side: 'or more' | 'at most'): string {
  const counted = COUNTED[origin];
  if (counted === undefined)
    return side === 'at most' ? `must be at most ${value}` : `must be ${value} or more`;
  const things = `${value} ${value === 1 ? counted : counted.replace(/y?$/, (y) => (y === '' ? 's' : 'ies'))}`;
  return side === 'at most' ? `must have at most ${things}` : `must have ${things} or more`;
}

/** Returns the fields that a schema knows, after the schema has rejected an unknown field. */
function knownKeys(schema: unknown): string[] {
  const { _zod: internals } = (schema ?? {}) as { _zod?: { def: { shape?: object } } };
  return Object.keys(internals?.def.shape ?? {});
}
