/** Schemes that a return URL must not have. The API generates this module from its own list. */
export declare const NEVER_SCHEMES: readonly string[];
