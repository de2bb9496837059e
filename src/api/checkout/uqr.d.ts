/** The package uqr, which the API serves under this name. */
export * from 'uqr';
