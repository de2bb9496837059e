import type { Caller } from '../../ledger/merchants.ts';
import type { Api } from '../api-deps.ts';
import type { Presentation } from './present.ts';

/** How the caller sees rows now: operators get links into the Temporal Web UI. */
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

/** The address of the cashier page for one payment; it carries the client token. */
export function checkoutUrl({ publicUrl }: Api['config']['api'], paymentId: string, token: string): string {
  return `${publicUrl}/checkout/${paymentId}?token=${token}`;
}
