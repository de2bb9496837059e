/** The channels as payers know them, by name, as the API serves them from the channels' declarations. */
export declare const TITLES: Readonly<Record<string, { readonly en: string; readonly zh: string }>>;
