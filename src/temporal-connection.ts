import { Connection } from '@temporalio/client';

/**
 * Creates a connection that connects at its first call. After a lost connection it reconnects, with at most 1 s between
 * two tries. With gRPC's default backoff, which grows to two minutes, a recovered server could count as down for up to
 * two minutes.
 * @param address host:port
 */
export function lazyConnection(address: string): Connection {
  return Connection.lazy({ address, channelArgs: { 'grpc.max_reconnect_backoff_ms': 1_000 } });
}
