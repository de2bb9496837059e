import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { extname } from 'node:path';
import { brotliCompressSync, gzipSync } from 'node:zlib';
import type { RequestHandler } from 'express';

const COMPRESS = { br: brotliCompressSync, gzip: gzipSync };
const ENCODINGS = ['br', 'gzip'] as const;

/** Serves a file of this folder. It is compressed once at the start; a browser that has the file gets 304. */
export function asset(name: string): RequestHandler {
  const original = readFileSync(new URL(`./${name}`, import.meta.url));
  const hash = createHash('sha256').update(original).digest('base64url');
  const compressed = { br: COMPRESS.br(original), gzip: COMPRESS.gzip(original) };
  return (request, response) => {
    const encoding = ENCODINGS.find((one) => request.acceptsEncodings(one) !== false);
    response.vary('Accept-Encoding').type(extname(name));
    response.set({ 'Cache-Control': 'no-cache', ETag: `"${hash}-${encoding ?? 'plain'}"` });
    if (encoding !== undefined && !request.fresh) response.set('Content-Encoding', encoding);
    response.send(encoding === undefined ? original : compressed[encoding]);
  };
}
