/** Where a payer may be sent back to after the wallet: web pages, and apps that the merchant has allowed. */

/** Every merchant's. */
const WEB = ['http', 'https'];

/**
 * What browsers and systems act on themselves: they run or show what the address has in it, open files or settings, or
 * call and write to somebody. No merchant can allow them.
 */
export const NEVER_SCHEMES: readonly string[] = [
  ...[
    'about',
    'blob',
    'cid',
    'content',
    'data',
    'file',
    'filesystem',
    'ftp',
    'jar',
    'javascript',
    'livescript',
  ],
  ...['mailto', 'mhtml', 'mocha', 'resource', 'sms', 'smsto', 'tel', 'vbscript', 'view-source', 'ws', 'wss'],
  ...['chrome', 'chrome-extension', 'edge', 'intent', 'moz-extension', 'ms-settings', 'search-ms'],
];

/** Why a merchant cannot allow this scheme, as the end of a sentence; undefined for one that it can. */
export function schemeFault(scheme: string): string | undefined {
  if (!/^[a-z][a-z0-9+.-]{0,62}$/.test(scheme))
    return 'is no scheme: use up to 63 of a-z 0-9 + . -, beginning with a letter, without ://';
  if (WEB.includes(scheme)) return 'is always allowed: leave it out';
  if (NEVER_SCHEMES.includes(scheme)) return 'is never allowed: browsers act on it themselves';
  return undefined;
}

/** The scheme of a URL, in small letters; undefined for what is no URL. */
export const schemeOf = (url: string): string | undefined => URL.parse(url)?.protocol.slice(0, -1);

/** True for a URL that needs nobody's permission. */
export const isWeb = (url: string): boolean => WEB.includes(schemeOf(url) ?? '');

/** True for a URL whose scheme a merchant may have allowed, or that is a web page's. */
export function mayReturnTo(url: string): boolean {
  const scheme = schemeOf(url);
  return scheme !== undefined && (WEB.includes(scheme) || schemeFault(scheme) === undefined);
}
