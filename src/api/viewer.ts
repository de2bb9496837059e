import type { Caller } from '../ledger/merchants.ts';
import type { PaymentWithRefund } from '../ledger/views.ts';
import type { Access } from './auth.ts';
import type { Api } from './deps.ts';
import type { PayerPaymentView, PaymentView } from './schemas/payment.ts';
import { payerPaymentView, paymentView, type Viewer } from './views.ts';

/** The address of the cashier page for one payment; it carries the client token. */
const checkoutUrl =
  ({ publicUrl }: Api['config']['api']): Viewer['checkoutUrl'] =>
  (paymentId, clientToken) =>
    `${publicUrl}/checkout/${paymentId}?token=${clientToken}`;

/** How the caller sees rows now: operators get links into the Temporal Web UI. */
export function viewerOf({ config, now }: Pick<Api, 'config' | 'now'>, caller: Caller): Viewer {
  const { uiUrl, namespace } = config.temporal;
  return {
    now: now(),
    temporalUrl: (workflowId) =>
      caller.role !== 'operator' || uiUrl === undefined
        ? null
        : `${uiUrl}/namespaces/${encodeURIComponent(namespace)}/workflows/${encodeURIComponent(workflowId)}`,
    checkoutUrl: checkoutUrl(config.api),
  };
}

/** A payment as whoever asks may see it: its payer with the token, or its merchant with a key. */
export function viewFor(
  api: Pick<Api, 'config' | 'now'>,
  access: Access,
  row: PaymentWithRefund,
): PaymentView | PayerPaymentView {
  if (access.kind === 'key') return paymentView(row, viewerOf(api, access.caller));
  return payerPaymentView(row, api.now(), checkoutUrl(api.config.api)(row.id, access.token));
}
