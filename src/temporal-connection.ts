import { Connection } from '@temporalio/client';

/**
 * Creates a connection that connects at its first call and reconnects after each loss, with at most 1 s between two
 * tries. The default backoff of gRPC grows to two minutes. With that backoff, a recovered server would still count as
 * down for up to two minutes.
 * @param address host:port
 */
export function lazyConnection(address: string): Connection {
  return Connection.lazy({ address, channelArgs: { 'grpc.max_reconnect_backoff_ms': 1_000 } });
}
