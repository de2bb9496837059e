/**
 * Checks the URL to which a payer returns from the wallet. It may be a web page, or an app whose scheme the merchant
 * has allowed.
 */

/** The schemes that every merchant may use. */
const WEB = ['http', 'https'];

/**
 * Schemes that no merchant can allow, because browsers and operating systems handle them. Such a scheme can run or show
 * the content of the URL, open files, settings or app stores, or start calls and messages. The list is not complete:
 * the operator is responsible for the schemes that are allowed.
 */
export const NEVER_SCHEMES: readonly string[] = [
  // These schemes run or show the content of the URL, or read files.
  ...'about blob cid content data feed file filesystem ftp ftps jar javascript livescript mhtml mocha'.split(
    ' ',
  ),
  ...'resource sftp vbscript view-source webcal ws wss'.split(' '),
  // These schemes start calls or messages.
  ...'callto facetime facetime-audio imessage mailto mms sip sips skype sms smsto tel xmpp'.split(' '),
  // These schemes belong to a browser or an operating system.
  ...'android-app chrome devtools edge intent itms itmss market microsoft-edge opera search search-ms shell'.split(
    ' ',
  ),
  // These schemes connect to other machines.
  ...'afp dav git irc ircs ldap ldaps magnet nfs rdp smb ssh telnet vnc'.split(' '),
];

/** Prefixes of schemes that no merchant can allow. */
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

/**
 * Returns why a merchant cannot allow this scheme, as the end of a sentence. Undefined if the merchant can allow it.
 */
export function schemeFault(scheme: string): string | undefined {
  if (!/^[a-z][a-z0-9+.-]{0,62}$/.test(scheme))
    return 'is not a scheme: use up to 63 of a-z 0-9 + . -, beginning with a letter, without ://';
  if (WEB.includes(scheme)) return 'is always allowed: leave it out';
  if (isNever(scheme)) return 'is never allowed: browsers or operating systems handle it themselves';
  return undefined;
}

/** The scheme of a URL, in lower case. Undefined if the text is not a URL. */
export const schemeOf = (url: string): string | undefined => URL.parse(url)?.protocol.slice(0, -1);

/** True for an http or https URL, which every merchant may use. */
export const isWeb = (url: string): boolean => WEB.includes(schemeOf(url) ?? '');

/** True for an http or https URL, or a URL with a scheme that a merchant can allow. */
export function mayReturnTo(url: string): boolean {
  const scheme = schemeOf(url);
  return scheme !== undefined && (WEB.includes(scheme) || schemeFault(scheme) === undefined);
}
