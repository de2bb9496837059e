import pg from 'pg';

/**
 * PostgreSQL ends connections at any time: a restart, a failover, an administrator. `pg` then emits `error`, and Node
 * ends a process whose emitter has no listener for it. `pg`'s pool listens while a connection is idle, but not while it
 * is lent out, so that a listener of the borrower's can come too late. These listen from the beginning, and say nothing:
 * the query that is under way, or the next one, is rejected with the same error, and the pool replaces the connection.
 */
export class Connection extends pg.Client {
  constructor(config: pg.ClientConfig) {
    super(config);
    this.on('error', () => {});
  }
}

/** A pool of such connections, which no idle one that ends gets out of either. The caller closes it with `end()`. */
export class ConnectionPool extends pg.Pool {
  constructor(config: pg.PoolConfig) {
    // The type knows no constructor with parameters; the pool passes its own configuration.
    super({ ...config, Client: Connection as unknown as NonNullable<pg.PoolConfig['Client']> });
    this.on('error', () => {});
  }
}
