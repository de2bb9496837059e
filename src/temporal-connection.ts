import { Connection } from '@temporalio/client';

/**
 * Creates a connection that connects at its first call. After a lost connection it reconnects, with at most 1 s between
 * two tries. gRPC's default backoff grows to two minutes, so nodrop could need two minutes to reconnect to a server
 * that has recovered.
 * @param address host:port
 */
export function lazyConnection(address: string): Connection {
  return Connection.lazy({ address, channelArgs: { 'grpc.max_reconnect_backoff_ms': 1_000 } });
}
