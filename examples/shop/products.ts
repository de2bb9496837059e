import type { Messages } from './messages.ts';

/** What the shop sells. Amounts are in minor units: CNY has two decimals, JPY has none. */
export interface Product {
  /** The id of the product. The messages of each language have the product's name under this id. */
  readonly id: keyof Messages['products'];
  readonly amount: number;
  readonly currency: string;
  /** The product's picture: the content of an SVG with a 48 by 48 view box. */
  readonly art: string;
}

export const PRODUCTS: readonly Product[] = [
  {
    id: 'coffee',
    amount: 6800,
    currency: 'CNY',
    art: '<path d="M10 18h22v12a9 9 0 0 1-9 9h-4a9 9 0 0 1-9-9z"/><path d="M32 21h3a5 5 0 0 1 0 10h-3"/><path d="M17 12c0-3 3-3 3-6M24 12c0-3 3-3 3-6"/>',
  },
  {
    id: 'notebook',
    amount: 3990,
    currency: 'CNY',
    art: '<rect x="12" y="7" width="25" height="34" rx="3"/><path d="M18 7v34M9 14h6M9 24h6M9 34h6M24 16h7"/>',
  },
  {
    id: 'towel',
    amount: 1200,
    currency: 'JPY',
    art: '<path d="M12 7h24v34H12z"/><path d="M12 15c6 4 6-4 12 0s6-4 12 0M12 24c6 4 6-4 12 0s6-4 12 0M12 33c6 4 6-4 12 0s6-4 12 0"/>',
  },
  {
    id: 'teapot',
    amount: 5800,
    currency: 'JPY',
    art: '<path d="M12 22h22c0 12-3 18-11 18s-11-6-11-18z"/><path d="M34 26l8-6M12 26l-7-2M15 22c0-5 4-8 8-8s8 3 8 8M23 14v-4"/>',
  },
];

/**
 * Formats an amount, for example `CNY 68.00` or `JPY 1,200`. All languages have the same format, as on nodrop's cashier
 * page.
 */
export function money(amount: number, currency: string): string {
  const format = new Intl.NumberFormat('en', { style: 'currency', currency, currencyDisplay: 'code' });
  const { maximumFractionDigits: decimals = 2 } = format.resolvedOptions();
  return format.format(amount / 10 ** decimals).replace(/\s/g, ' ');
}
