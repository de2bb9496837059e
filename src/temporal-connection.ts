import { Connection } from '@temporalio/client';

/**
 * A connection that is made at its first call and again after every loss. gRPC alone waits ever longer between its
 * tries, up to two minutes, and so long a repaired server would still look dead to us.
 * @param address host:port
 */
export function lazyConnection(address: string): Connection {
  return Connection.lazy({ address, channelArgs: { 'grpc.max_reconnect_backoff_ms': 1_000 } });
}
