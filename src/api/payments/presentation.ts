import type { Caller } from '../../ledger/merchants.ts';
import type { Api } from '../api-deps.ts';
import type { Presentation } from './present.ts';

/** Makes the `Presentation` for a caller. Only operators get links to the Temporal Web UI. */
export function presentationFor({ config, now }: Pick<Api, 'config' | 'now'>, caller: Caller): Presentation {
  const { uiUrl, namespace } = config.temporal;
  return {
    now: now(),
    temporalUrl: (workflowId) =>
      caller.role !== 'operator' || uiUrl === undefined
        ? null
        : `${uiUrl}/namespaces/${encodeURIComponent(namespace)}/workflows/${encodeURIComponent(workflowId)}`,
    checkoutUrl: (paymentId, clientToken) => checkoutUrl(config.api, paymentId, clientToken),
  };
}

/** The URL of the cashier page for one payment, with the client token. */
export function checkoutUrl({ publicUrl }: Api['config']['api'], paymentId: string, token: string): string {
  return `${publicUrl}/checkout/${paymentId}?token=${token}`;
}
