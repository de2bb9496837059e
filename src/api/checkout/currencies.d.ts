/** Decimal places by currency code. The API generates this module from its own list. */
export declare const EXPONENTS: Readonly<Record<string, number>>;
