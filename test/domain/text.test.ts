import fc from 'fast-check';
import { expect, test } from 'vitest';
import { ORDER_ID_PATTERN, orderIdFault } from '../../src/domain/order-id.ts';
import { mayReturnTo, NEVER_PREFIXES, NEVER_SCHEMES, schemeFault } from '../../src/domain/return-scheme.ts';
import { fromMarkdown, inMarkdown, readableFault } from '../../src/domain/text.ts';

/** Tests which order ids are accepted, and which texts that people read are accepted. */

const OVERRIDES = [0x202a, 0x202b, 0x202c, 0x202d, 0x202e, 0x2066, 0x2067, 0x2068, 0x2069];
const char = (code: number) => String.fromCodePoint(code);

test.each(OVERRIDES.map((code) => [`U+${code.toString(16)}`, char(code)]))(
  'a text that contains %s is rejected',
  (_, mark) => {
    for (const text of [`${mark}Tickets`, `Tic${mark}kets`, `Tickets${mark}`, mark])
      expect(readableFault(text)).toMatch(/^must not contain bidirectional/);
  },
);

test.each([
  ' ',
  '\t\n',
  '\u00a0',
  '\u3000',
  '\u200b',
  '\u200e\u200f',
  '\u2060',
  '\ufeff',
  '\u00ad',
  '\u034f',
  '\u115f',
  '\u3164',
  '\uffa0',
  '\ufe0f',
  '\u2800',
  '\u{e0020}',
  ' \u200b\u3164 ',
])('a text that consists only of %j is rejected', (text) => {
  expect(readableFault(text)).toBe('must contain a visible character');
});

test.each([
  'Two tickets',
  'שלום',
  'abc \u200eשלום\u200f',
  '\u061cمرحبا',
  '二张票',
  '👨‍👩‍👧 family',
  'می‌خواهم',
  '-',
  'a\nb',
  'e\u0301',
])('%j is accepted as a text', (text) => {
  expect(readableFault(text)).toBeUndefined();
});

test.each([
  '#1001',
  'A/2026/11',
  'Bestellung 7',
  'größe-7',
  '注文1001',
  '注文 1001',
  'заказ-7',
  'طلب٧',
  '訂單№7',
  '100%',
  '%2F',
  'a?b=c&d',
  "it's",
  '"quoted"',
  'back\\slash',
  '(a) [b] {c} <d>',
  '🛒7',
  'a b c',
  'ä\u0323'.normalize('NFC'),
  '/',
  '...',
  '.a',
  'a.',
  'x'.repeat(64),
  '𠮷'.repeat(64),
])('%j is accepted as an order’s id', (id) => {
  expect(orderIdFault(id)).toBeUndefined();
  expect(id).toMatch(new RegExp(ORDER_ID_PATTERN, 'u'));
  // People read the id too, so it must be acceptable as a text.
  expect(readableFault(id)).toBeUndefined();
});

const MARKS = [
  '\u0000',
  '\n',
  '\t',
  '\u007f',
  '\u0085',
  '\u00a0',
  '\u00ad',
  '\u061c',
  '\u200b',
  '\u200d',
  '\u200e',
];
const MORE = [
  '\u2028',
  '\u2029',
  '\u202e',
  '\u2066',
  '\u2060',
  '\u3000',
  '\ufeff',
  '\ufe0f',
  '\u3164',
  '\u2800',
];

test.each([
  ['', /1 to 64/],
  ['x'.repeat(65), /1 to 64/],
  ['𠮷'.repeat(65), /1 to 64/],
  [' a', /space/],
  ['a ', /space/],
  [' ', /space/],
  ['a  b', /two spaces/],
  ['a   b', /two spaces/],
  ['\u0323a', /mark/],
  ['\u20dd1', /mark/],
  ['.', /\. or \.\./],
  ['..', /\. or \.\./],
  ['e\u0301', /NFC/],
  ['\u212b', /NFC/],
  ['\ud800', /letters/],
  ['a\udc00b', /letters/],
  ['\ue000', /letters/],
  ...[...MARKS, ...MORE].map((mark): [string, RegExp] => [`a${mark}b`, /letters/]),
])('%j is rejected as an order’s id', (id, why) => {
  expect(orderIdFault(id)).toMatch(why);
});

test('URL encoding, trimming, normalization and display do not change an order’s id', () => {
  const id = fc
    .oneof(fc.string({ unit: 'binary', maxLength: 66 }), fc.string({ unit: 'grapheme', maxLength: 66 }))
    .filter((text) => orderIdFault(text) === undefined);
  fc.assert(
    fc.property(id, (text) => {
      expect(decodeURIComponent(encodeURIComponent(text))).toBe(text);
      // The URL's path has all its segments. An id such as `..` would remove one.
      const url = new URL(`https://shop.example/v1/orders/${encodeURIComponent(text)}/cancel`);
      expect(url.pathname.split('/')).toHaveLength(5);
      expect(decodeURIComponent(url.pathname.split('/')[3] ?? '')).toBe(text);
      expect(new URL(`https://shop.example/?id=${encodeURIComponent(text)}`).searchParams.get('id')).toBe(
        text,
      );
      expect(fromMarkdown(inMarkdown(text))).toBe(text);
      // The OpenAPI document's pattern accepts every id that the API accepts.
      expect(text).toMatch(new RegExp(ORDER_ID_PATTERN, 'u'));
    }),
  );
});

test('Markdown shows an id unchanged, and a common id needs no escaping', () => {
  expect(inMarkdown('order-1001-a.b:c')).toBe('order-1001-a.b:c');
  expect(inMarkdown('_1001_ __7__ a_b')).toBe('\\_1001\\_ \\_\\_7\\_\\_ a\\_b');
  for (const id of ['www.evil.example', 'WWW.evil.example']) {
    expect(inMarkdown(id)).toBe(id.replace('.', '\\.'));
    expect(fromMarkdown(inMarkdown(id))).toBe(id);
  }
  expect(inMarkdown('**x** [y](z) <b> `c` #1 \\')).toBe(
    '\\*\\*x\\*\\* \\[y\\]\\(z\\) \\<b\\> \\`c\\` \\#1 \\\\',
  );
});

test.each([
  ...NEVER_SCHEMES,
  ...NEVER_PREFIXES.map((prefix) => `${prefix}x`),
  ...['moz-extension', 'ms-settings', 'chrome-extension', 'ms-msdt', 'itms-services', 'skype', 'ssh'],
])('no merchant can allow the scheme %s, and nodrop sends no payer to a URL with this scheme', (scheme) => {
  expect(schemeFault(scheme)).toMatch(/never/);
  for (const url of [`${scheme}:x`, `${scheme}://x`, `${scheme.toUpperCase()}:x`])
    expect([url, mayReturnTo(url)]).toEqual([url, false]);
});

test('a merchant can allow return URLs that open an app', () => {
  for (const scheme of ['myapp', 'com.example.app', 'fb123+a', 'x-shop'])
    expect([scheme, schemeFault(scheme), mayReturnTo(`${scheme}://thanks`)]).toEqual([
      scheme,
      undefined,
      true,
    ]);
  expect(['http', 'https'].map(schemeFault)).toEqual([expect.any(String), expect.any(String)]);
  expect(mayReturnTo('https://shop.example/')).toBe(true);
  expect(mayReturnTo('shop.example')).toBe(false);
});
