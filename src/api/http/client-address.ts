import { isIP } from 'node:net';
import type { Request } from 'express';
import { ipKeyGenerator } from 'express-rate-limit';

/**
 * All addresses of an IPv6 /64 network are treated as one address, because one sender usually controls the whole
 * network.
 */
const IPV6_NETWORK_BITS = 64;

/**
 * Returns the sender's address. The limits of this address apply to the request. For IPv6, this is the /64 network.
 * Express reads the address from `X-Forwarded-For` if a proxy in `NODROP_TRUSTED_PROXIES` sent the request. Otherwise
 * it uses the address of the connection.
 */
export function clientAddress({ ip, socket }: Pick<Request, 'ip' | 'socket'>): string {
  // A trusted proxy may forward a value that is not an address. nodrop does not use such a value, because a sender
  // could change the value with each request to avoid the limits.
  const address = ip !== undefined && isIP(ip) !== 0 ? ip : (socket.remoteAddress ?? '');
  return ipKeyGenerator(address, IPV6_NETWORK_BITS);
}
