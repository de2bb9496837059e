import { createHash } from 'node:crypto';
import { extname } from 'node:path';
import { promisify } from 'node:util';
import { brotliCompress, constants, gzip } from 'node:zlib';
import type { RequestHandler } from 'express';

/** The supported content encodings. The best encoding comes first. */
const ENCODINGS = ['br', 'gzip'] as const;

type Encoding = (typeof ENCODINGS)[number];

/** File types that are already compressed. */
const PACKED = new Set(['.png']);

/**
 * The compression quality. The output is nearly as small as with the highest quality, and compression is ten times as
 * fast.
 */
const QUALITY = 9;

const COMPRESS: Readonly<Record<Encoding, (content: Buffer) => Promise<Buffer>>> = {
  br: (content) =>
    promisify(brotliCompress)(content, { params: { [constants.BROTLI_PARAM_QUALITY]: QUALITY } }),
  gzip: (content) => promisify(gzip)(content, { level: QUALITY }),
};

/**
 * Serves a file of a page. The file is compressed if the browser accepts that. If the browser already has the file, the
 * answer is 304. The file is compressed once per encoding, at the first request for that encoding. Each encoding has
 * its own ETag, because an ETag identifies exact bytes.
 * @param name the file name, whose extension decides the content type
 * @param cacheControl the value of the header `Cache-Control`
 */
export function asset(name: string, content: string | Buffer, cacheControl: string): RequestHandler {
  const original = Buffer.from(content);
  const hash = createHash('sha256').update(original).digest('base64url');
  const encodings = PACKED.has(extname(name)) ? [] : ENCODINGS;
  const made = new Map<Encoding, Promise<Buffer>>();
  const compressed = (encoding: Encoding) => {
    const known = made.get(encoding) ?? COMPRESS[encoding](original);
    made.set(encoding, known);
    return known;
  };
  return async (request, response) => {
    const encoding = encodings.find((one) => request.acceptsEncodings(one) !== false);
    response.set({
      'Cache-Control': cacheControl,
      ETag: encoding === undefined ? `"${hash}"` : `"${hash}-${encoding}"`,
    });
    if (encodings.length > 0) response.vary('Accept-Encoding');
    if (request.fresh) return void response.status(304).end();
    response.type(extname(name));
    if (encoding === undefined) return void response.send(original);
    const body = await compressed(encoding);
    response.set('Content-Encoding', encoding).send(body);
  };
}
