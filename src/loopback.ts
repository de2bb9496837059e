import type { IncomingMessage } from 'node:http';
import { BlockList, isIP } from 'node:net';

/** Who is on this machine: for what is meant for its own user alone. */

const loopback = new BlockList();
loopback.addSubnet('127.0.0.0', 8, 'ipv4');
loopback.addAddress('::1', 'ipv6');

/** True for `localhost` and the addresses only this machine reaches. */
export function isLoopback(host: string | undefined): boolean {
  if (host === undefined) return false;
  if (host === 'localhost') return true;
  // An IPv4 peer of a listener on IPv6.
  const address = host.replace(/^\[(.*)\]$/, '$1').replace(/^::ffff:(?=\d+\.)/i, '');
  const family = isIP(address);
  return family !== 0 && loopback.check(address, family === 4 ? 'ipv4' : 'ipv6');
}

/** The same for the host of a URL or an Origin. */
export function isLoopbackUrl(url: string): boolean {
  return URL.canParse(url) && isLoopback(new URL(url).hostname);
}

/** The same for a Host header, which may have a port. */
export function isLoopbackHost(header: string | undefined): boolean {
  return isLoopback(/^(\[[^\]]*\]|[^:]*)(:\d+)?$/.exec(header ?? '')?.[1]);
}

/**
 * True for a call from this machine with nothing in between. The Host keeps out pages that rebind a name to
 * loopback, and the forwarding headers show a proxy that would lend callers its address.
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
