import type { Payment } from '../../ledger/rows.ts';

/**
 * Returns the URL at which the payer continues after the payment: the merchant's `returnUrl`, with the payment's id
 * added. Returns null if the merchant gave no `returnUrl`.
 */
export function backUrl({ id, returnUrl }: Pick<Payment, 'id' | 'returnUrl'>): string | null {
  if (returnUrl === null) return null;
  // The payment id is added as text. A URL parser could change the encoding of the merchant's own query parameters.
  const [, base = '', fragment = ''] = /^([^#]*)(.*)$/s.exec(returnUrl) ?? [];
  const separator = base.includes('?') ? (/[?&]$/.test(base) ? '' : '&') : '?';
  return `${base}${separator}paymentId=${id}${fragment}`;
}
