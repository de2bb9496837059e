import { Connection } from '@temporalio/client';

/**
 * Creates a connection that connects at its first call. After each loss it reconnects, with at most 1 s between two
 * tries. The default backoff of gRPC grows to two minutes, so a server that has recovered could count as down for up to
 * two minutes.
 * @param address host:port
 */
export function lazyConnection(address: string): Connection {
  return Connection.lazy({ address, channelArgs: { 'grpc.max_reconnect_backoff_ms': 1_000 } });
}
