import { type LookupAddress, type LookupOptions, lookup as lookupInSystem, Resolver } from 'node:dns';
import { readFileSync } from 'node:fs';
import type { LookupFunction } from 'node:net';
import { promisify } from 'node:util';

/**
 * Looks up the host names of order services in DNS. Node's default lookup uses only a few threads. So a slow name
 * server of one merchant could block the lookups of all merchants. This lookup queries the name server without a
 * thread. It uses the system's lookup only for names in the hosts file and for names that the name server does not
 * know. For each name, only one system lookup runs at a time.
 */

export interface LookupSettings {
  /** @default the system's name servers */
  readonly nameServers?: readonly string[];
  /**
   * The timeout of the first attempt. The second attempt has a longer timeout.
   * @default 3 s
   */
  readonly timeoutMs?: number;
}

/** After one of these errors of the name server, a later lookup may succeed. */
const NOT_NOW = new Set(['ETIMEOUT', 'ESERVFAIL', 'EREFUSED']);
const HOSTS_FILE = '/etc/hosts';

export function createLookup({ nameServers, timeoutMs = 3_000 }: LookupSettings = {}): LookupFunction {
  const resolver = new Resolver({ timeout: timeoutMs, tries: 2 });
  if (nameServers !== undefined) resolver.setServers([...nameServers]);
  const resolve4 = promisify(resolver.resolve4.bind(resolver)) as (name: string) => Promise<string[]>;
  const resolve6 = promisify(resolver.resolve6.bind(resolver)) as (name: string) => Promise<string[]>;

  const askNameServer = async (name: string): Promise<LookupAddress[]> => {
    const [four, six] = await Promise.allSettled([resolve4(name), resolve6(name)]);
    const found = [
      ...(four.status === 'fulfilled' ? four.value.map((address) => ({ address, family: 4 })) : []),
      ...(six.status === 'fulfilled' ? six.value.map((address) => ({ address, family: 6 })) : []),
    ];
    if (found.length > 0) return found;
    for (const { reason } of [four, six].filter((one) => one.status === 'rejected')) {
      if (NOT_NOW.has(reason.code)) throw Object.assign(new Error(reason.message), { code: 'EAI_AGAIN' });
    }
    return [];
  };

  /** The running lookups of the system, by host name. */
  const inSystem = new Map<string, Promise<LookupAddress[]>>();
  const askSystem = (name: string): Promise<LookupAddress[]> => {
    const known = inSystem.get(name);
    if (known !== undefined) return known;
    const asked = new Promise<LookupAddress[]>((resolve, reject) => {
      lookupInSystem(name, { all: true }, (error, addresses) =>
        error === null ? resolve(addresses) : reject(error),
      );
    }).finally(() => inSystem.delete(name));
    inSystem.set(name, asked);
    return asked;
  };

  const find = async (name: string, { family }: LookupOptions): Promise<LookupAddress[]> => {
    const wanted = family === 4 || family === 'IPv4' ? 4 : family === 6 || family === 'IPv6' ? 6 : undefined;
    // A name without a dot belongs to this machine or this network. So nodrop does not query the name server for it.
    const isLocal = !name.includes('.') || isInHostsFile(name);
    let found = isLocal ? [] : await askNameServer(name);
    if (found.length === 0) found = await askSystem(name);
    return wanted === undefined ? found : found.filter((one) => one.family === wanted);
  };

  return (name, options, done) => {
    find(name, options).then(
      (addresses) => {
        const [first] = addresses;
        if (first === undefined) done(notFound(name), '', 0);
        else if (options.all === true) done(null, addresses);
        else done(null, first.address, first.family);
      },
      (error: NodeJS.ErrnoException) => done(error, '', 0),
    );
  };
}

const notFound = (name: string) => Object.assign(new Error(`${name} has no address`), { code: 'ENOTFOUND' });

function isInHostsFile(name: string): boolean {
  try {
    const lines = readFileSync(HOSTS_FILE, 'utf8').split('\n');
    return lines.some((line) =>
      line
        .replace(/#.*/, '')
        .trim()
        .split(/\s+/)
        .slice(1)
        .some((one) => one.toLowerCase() === name.toLowerCase()),
    );
  } catch {
    return false;
  }
}
