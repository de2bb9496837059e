import type { Connection } from '@temporalio/client';

/** Temporal's number for the type Keyword. */
export const KEYWORD = 2;

/** What workflows can be listed by; all of type Keyword. */
export const SEARCH_ATTRIBUTES = ['PaymentStatus', 'PaymentChannel', 'OrderId', 'PaymentAttention'] as const;

/**
 * Registers the search attributes on the namespace, the missing ones only. Every worker does it at its start, so that
 * a new Temporal database heals itself; several at once are no trouble.
 */
export async function ensureSearchAttributes(connection: Connection, namespace: string): Promise<void> {
  const missing = await missingAttributes(connection, namespace);
  if (missing.length === 0) return;
  try {
    await connection.operatorService.addSearchAttributes({
      namespace,
      searchAttributes: Object.fromEntries(missing.map((name) => [name, KEYWORD])),
    });
  } catch (error) {
    // Another process may have been faster; what counts is that they are there.
    if ((await missingAttributes(connection, namespace)).length > 0) throw error;
  }
}

async function missingAttributes(connection: Connection, namespace: string) {
  const { customAttributes } = await connection.operatorService.listSearchAttributes({ namespace });
  return SEARCH_ATTRIBUTES.filter((name) => customAttributes?.[name] === undefined);
}
