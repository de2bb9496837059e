import type { Payment } from '../../ledger/rows.ts';

/** Where the payer goes on to: the merchant's `returnUrl` with this payment's id; null without one. */
export function backUrl({ id, returnUrl }: Pick<Payment, 'id' | 'returnUrl'>): string | null {
  if (returnUrl === null) return null;
  // Added as text: parsed and written again, the merchant's own query could come out in another encoding.
  const [, base = '', fragment = ''] = /^([^#]*)(.*)$/s.exec(returnUrl) ?? [];
  const separator = base.includes('?') ? (/[?&]$/.test(base) ? '' : '&') : '?';
  return `${base}${separator}paymentId=${id}${fragment}`;
}
