import { isIP } from 'node:net';
import type { Request } from 'express';
import { ipKeyGenerator } from 'express-rate-limit';

/**
 * An owner of an IPv6 address usually controls its whole /64 network, so all addresses of a /64 network count as one.
 */
const IPV6_NETWORK_BITS = 64;

/**
 * The address for whose limits a request counts; for IPv6 its /64 network. Express reads it from `X-Forwarded-For` if a
 * proxy of `NODROP_TRUSTED_PROXIES` sent the request, and otherwise from the connection.
 */
export function clientAddress({ ip, socket }: Pick<Request, 'ip' | 'socket'>): string {
  // A trusted proxy may forward a value that is not an address. If such a value counted as an address, each request
  // could appear to come from a new sender.
  const address = ip !== undefined && isIP(ip) !== 0 ? ip : (socket.remoteAddress ?? '');
  return ipKeyGenerator(address, IPV6_NETWORK_BITS);
}
