/** The methods that say in which browsers they are paid, as the API serves them from the channels' declarations. */
export declare const METHODS: import('./browsers.js').Methods;
