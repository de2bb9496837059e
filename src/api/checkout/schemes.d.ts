/** Schemes that no payer is sent back to, as the API serves them from the list it uses itself. */
export declare const NEVER_SCHEMES: readonly string[];
