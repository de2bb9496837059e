import pg from 'pg';

/** Members of `pg` clients that the type definitions of `pg` leave out. */
interface Startup {
  /** The settings that a connection sends in its first message, by name. */
  getStartupConf(): Readonly<Record<string, string>>;
  readonly connection: {
    readonly stream: { destroy(): void };
    emit(event: 'error', error: Error): void;
    /**
     * PostgreSQL reports some settings, for example the time zone, when a connection begins and whenever one of them
     * changes.
     */
    on(event: 'parameterStatus', listener: (setting: Reported) => void): void;
  };
}
interface Reported {
  readonly parameterName: string;
  readonly parameterValue: string;
}

/**
 * A PostgreSQL connection that always uses the time zone UTC, and whose errors do not end the process. PostgreSQL can
 * end a connection at any time, for example because of a restart or a failover. `pg` then emits `error`, and Node ends
 * the process if no listener for `error` exists. `pg`'s pool listens only while a connection is idle. Therefore this
 * class listens from the beginning and ignores the error. The running query, or the next query, is rejected with the
 * same error, and the pool replaces the connection. UTC is needed because Prisma's adapter writes times without an
 * offset and ignores the offset of times that it reads. The connection's first message sets the time zone. That message
 * overrides the settings of the server, the database and the role, and a pooler applies it to the connections that it
 * lends. A connection that gets another zone anyway is closed, because wrong times would close payments too early or
 * too late.
 */
export class Connection extends pg.Client {
  constructor(config: pg.ClientConfig) {
    super(config);
    this.on('error', () => {});
    const { connection } = this as unknown as Startup;
    connection.on('parameterStatus', ({ parameterName, parameterValue }) => {
      if (parameterName !== 'TimeZone' || parameterValue === 'UTC') return;
      // The connection is closed immediately. This rejects the running query and prevents further queries.
      connection.emit('error', new Error(`the connection's TimeZone is ${parameterValue}, and must be UTC`));
      connection.stream.destroy();
    });
  }

  getStartupConf(): Readonly<Record<string, string>> {
    const inherited = (pg.Client.prototype as unknown as Startup).getStartupConf.call(this);
    return { ...inherited, TimeZone: 'UTC' };
  }
}

/**
 * A pool of connections that use UTC. The pool ignores errors of idle connections. The caller closes the pool with
 * `end()`.
 */
export class ConnectionPool extends pg.Pool {
  constructor(config: pg.PoolConfig) {
    // The types of pg declare a client's constructor without parameters. In fact, the pool passes its configuration to
    // the constructor.
    super({ ...config, Client: Connection as unknown as NonNullable<pg.PoolConfig['Client']> });
    this.on('error', () => {});
  }
}
