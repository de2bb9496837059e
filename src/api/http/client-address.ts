import { isIP } from 'node:net';
import type { Request } from 'express';
import { ipKeyGenerator } from 'express-rate-limit';

/** Whoever has an IPv6 address has the 2^64 of its network. */
const IPV6_NETWORK_BITS = 64;

/**
 * Whom a request counts for: the address it came from, of an IPv6 one its /64. Express takes it from `X-Forwarded-For`
 * when a proxy of `NODROP_TRUSTED_PROXIES` sent the request, and from the connection else.
 */
export function clientAddress({ ip, socket }: Pick<Request, 'ip' | 'socket'>): string {
  // A trusted proxy may pass on what is no address: it would be a new sender with each request.
  const address = ip !== undefined && isIP(ip) !== 0 ? ip : (socket.remoteAddress ?? '');
  return ipKeyGenerator(address, IPV6_NETWORK_BITS);
}
