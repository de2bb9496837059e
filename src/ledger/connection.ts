import pg from 'pg';

/** What pg has, and its types leave out. */
interface Startup {
  /** What a connection asks for in its first message, by the settings' names. */
  getStartupConf(): Readonly<Record<string, string>>;
  readonly connection: {
    readonly stream: { destroy(): void };
    emit(event: 'error', error: Error): void;
    /** PostgreSQL reports some settings when a connection begins, and whenever they change; the time zone is one. */
    on(event: 'parameterStatus', listener: (setting: Reported) => void): void;
  };
}
interface Reported {
  readonly parameterName: string;
  readonly parameterValue: string;
}

/**
 * PostgreSQL ends connections at any time: a restart, a failover, an administrator. `pg` then emits `error`, and Node
 * ends a process whose emitter has no listener for it. `pg`'s pool listens while a connection is idle, but not while it
 * is lent out, so that a listener of the borrower's can come too late. These listen from the beginning, and say nothing:
 * the query that is under way, or the next one, is rejected with the same error, and the pool replaces the connection.
 *
 * Their time zone is UTC, whatever the server's, the database's or the role's is: Prisma's adapter writes times without an
 * offset and ignores the offset of those that it reads. It is a part of the first message, which comes before all
 * these settings, and which a pooler keeps for the connections that it lends. One that gets another zone all the same ends:
 * wrong times would close payments too early, or too late.
 */
export class Connection extends pg.Client {
  constructor(config: pg.ClientConfig) {
    super(config);
    this.on('error', () => {});
    const { connection } = this as unknown as Startup;
    connection.on('parameterStatus', ({ parameterName, parameterValue }) => {
      if (parameterName !== 'TimeZone' || parameterValue === 'UTC') return;
      // At once: what is under way is rejected, and nothing more is sent.
      connection.emit('error', new Error(`the connection's TimeZone is ${parameterValue}, and must be UTC`));
      connection.stream.destroy();
    });
  }

  getStartupConf(): Readonly<Record<string, string>> {
    const inherited = (pg.Client.prototype as unknown as Startup).getStartupConf.call(this);
    return { ...inherited, TimeZone: 'UTC' };
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
