import type { Connection } from '@temporalio/client';

/** The number of the search attribute type Keyword in Temporal's API. */
export const KEYWORD = 2;

/** The search attributes of nodrop's workflows, all of type Keyword. */
export const SEARCH_ATTRIBUTES = ['PaymentStatus', 'PaymentChannel', 'OrderId', 'PaymentAttention'] as const;

/**
 * Registers the missing search attributes on the namespace. Workers call this function when they start and then every
 * minute, so a new Temporal database gets the attributes automatically. Several workers may call this function at the
 * same time.
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
    // Another process may have registered the attributes at the same time.
    if ((await missingAttributes(connection, namespace)).length > 0) throw error;
  }
}

async function missingAttributes(connection: Connection, namespace: string) {
  const { customAttributes } = await connection.operatorService.listSearchAttributes({ namespace });
  return SEARCH_ATTRIBUTES.filter((name) => customAttributes?.[name] === undefined);
}
