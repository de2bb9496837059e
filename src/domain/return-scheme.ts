/** Where a payer may be sent back to after the wallet: web pages, and apps that the merchant has allowed. */

/** Every merchant's. */
const WEB = ['http', 'https'];

/**
 * Known schemes on which browsers and systems act themselves: they run or show what the address has in it, open files,
 * settings or shops, or call and write to somebody. No merchant can allow them. There are others: the operator answers
 * for what is allowed.
 */
export const NEVER_SCHEMES: readonly string[] = [
  // Run or show what they carry, or read files.
  ...'about blob cid content data feed file filesystem ftp ftps jar javascript livescript mhtml mocha'.split(
    ' ',
  ),
  ...'resource sftp vbscript view-source webcal ws wss'.split(' '),
  // Call, or write to somebody.
  ...'callto facetime facetime-audio imessage mailto mms sip sips skype sms smsto tel xmpp'.split(' '),
  // Belong to a browser or a system.
  ...'android-app chrome devtools edge intent itms itmss market microsoft-edge opera search search-ms shell'.split(
    ' ',
  ),
  // Reach other machines.
  ...'afp dav git irc ircs ldap ldaps magnet nfs rdp smb ssh telnet vnc'.split(' '),
];

/** The same for whole families. */
export const NEVER_PREFIXES: readonly string[] = [
  'chrome-',
  'edge-',
  'itms-',
  'microsoft-edge-',
  'moz-',
  'ms-',
  'safari-',
  'x-apple',
];

const isNever = (scheme: string): boolean =>
  NEVER_SCHEMES.includes(scheme) || NEVER_PREFIXES.some((prefix) => scheme.startsWith(prefix));

/** Why a merchant cannot allow this scheme, as the end of a sentence; undefined for one that it can. */
export function schemeFault(scheme: string): string | undefined {
  if (!/^[a-z][a-z0-9+.-]{0,62}$/.test(scheme))
    return 'is no scheme: use up to 63 of a-z 0-9 + . -, beginning with a letter, without ://';
  if (WEB.includes(scheme)) return 'is always allowed: leave it out';
  if (isNever(scheme)) return 'is never allowed: browsers or systems act on it themselves';
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
