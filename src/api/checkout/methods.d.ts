/**
 * The methods that declare in which browsers they work. The API generates this module from the channels' declarations.
 */
export declare const METHODS: import('./browsers.js').Methods;
