import type { Payment } from '../../ledger/rows.ts';

/**
 * The URL to which the payer continues: the merchant's `returnUrl` with this payment's id. Null without a `returnUrl`.
 */
export function backUrl({ id, returnUrl }: Pick<Payment, 'id' | 'returnUrl'>): string | null {
  if (returnUrl === null) return null;
  // The id is added as text, because a URL parser could change the encoding of the merchant's own query.
  const [, base = '', fragment = ''] = /^([^#]*)(.*)$/s.exec(returnUrl) ?? [];
  const separator = base.includes('?') ? (/[?&]$/.test(base) ? '' : '&') : '?';
  return `${base}${separator}paymentId=${id}${fragment}`;
}
