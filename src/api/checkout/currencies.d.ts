/** Decimal places by currency code, as the API serves them from the list it uses itself. */
export declare const EXPONENTS: Readonly<Record<string, number>>;
