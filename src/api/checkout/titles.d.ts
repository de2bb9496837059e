/** The channels' titles for payers, by channel name. The API generates this module from the channels' declarations. */
export declare const TITLES: Readonly<Record<string, { readonly en: string; readonly zh: string }>>;
