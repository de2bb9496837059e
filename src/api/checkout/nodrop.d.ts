/** clients/js, as the API serves it beside this page. */
export * from '../../../clients/js/index.js';
