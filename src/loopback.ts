import type { IncomingMessage } from 'node:http';
import { BlockList, isIP } from 'node:net';

/** Checks whether a caller or a URL is on this machine. Some features are available only to callers on this machine. */

const loopback = new BlockList();
loopback.addSubnet('127.0.0.0', 8, 'ipv4');
loopback.addAddress('::1', 'ipv6');

/** True for `localhost` and loopback addresses, which only this machine can reach. */
export function isLoopback(host: string | undefined): boolean {
  if (host === undefined) return false;
  if (host === 'localhost') return true;
  // A listener on IPv6 shows the address of an IPv4 peer with a prefix, for example ::ffff:127.0.0.1.
  const address = host.replace(/^\[(.*)\]$/, '$1').replace(/^::ffff:(?=\d+\.)/i, '');
  const family = isIP(address);
  return family !== 0 && loopback.check(address, family === 4 ? 'ipv4' : 'ipv6');
}

/** True if the host of a URL or an `Origin` header is loopback. */
export function isLoopbackUrl(url: string): boolean {
  return URL.canParse(url) && isLoopback(new URL(url).hostname);
}

/** True if a `Host` header, which may have a port, is loopback. */
export function isLoopbackHost(header: string | undefined): boolean {
  return isLoopback(/^(\[[^\]]*\]|[^:]*)(:\d+)?$/.exec(header ?? '')?.[1]);
}

/**
 * True for a direct call from this machine, without a proxy. A forwarding header shows that the call comes through a
 * proxy. Through a proxy on this machine, every caller would have a loopback address. The check of `Host` rejects web
 * pages that rebind their name to loopback (DNS rebinding).
 */
export function isDirectLocalCall({ headers, socket }: Pick<IncomingMessage, 'headers' | 'socket'>): boolean {
  return (
    isLoopback(socket.remoteAddress) &&
    isLoopbackHost(headers.host) &&
    !Object.keys(headers).some(
      (name) => ['forwarded', 'via', 'x-real-ip'].includes(name) || name.startsWith('x-forwarded-'),
    )
  );
}
