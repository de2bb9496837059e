/** The number of decimal places of each currency. The API generates this module from its own list. */
export declare const EXPONENTS: Readonly<Record<string, number>>;
