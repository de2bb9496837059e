/** The package, as the API serves it beside this page. */
export * from 'uqr';
