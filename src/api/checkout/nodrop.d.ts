/** The client library clients/js, which the API serves under this name. */
export * from '../../../clients/js/index.js';
