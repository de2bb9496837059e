import { request } from 'node:http';
import { brotliDecompressSync, gunzipSync } from 'node:zlib';
import { expect, test } from 'vitest';
import { setUp } from '../support.ts';

// Tests the static files of nodrop's pages. A browser that accepts compression gets a file compressed. A browser that
// already has the file gets 304.

const { api } = await setUp();

/** Sends a request and returns the raw bytes of the answer. fetch would decompress them. */
async function get(path: string, headers: Record<string, string> = {}, method = 'GET') {
  return await new Promise<{ status: number; headers: NodeJS.Dict<string | string[]>; body: Buffer }>(
    (resolve, reject) => {
      request(`${api.url}${path}`, { headers, method }, (response) => {
        const chunks: Buffer[] = [];
        response.on('data', (chunk: Buffer) => chunks.push(chunk));
        response.on('end', () =>
          resolve({
            status: response.statusCode ?? 0,
            headers: response.headers,
            body: Buffer.concat(chunks),
          }),
        );
      })
        .on('error', reject)
        .end();
    },
  );
}

const TEXTS = [
  ...['page.js', 'page.css', 'messages.js', 'nodrop.js', 'uqr.js'].map((name) => `/checkout/assets/${name}`),
  ...['swagger-ui-bundle.js', 'swagger-ui.css', 'problems.css'].map((name) => `/docs/assets/${name}`),
];

test.each(TEXTS)(
  '%s is compressed for clients that accept it, with a Vary header for caches',
  async (path) => {
    const plain = await get(path);
    expect([plain.headers['content-encoding'], plain.headers.vary]).toEqual([undefined, 'Accept-Encoding']);
    for (const [accepted, encoding, unpack] of [
      ['gzip, deflate, br, zstd', 'br', brotliDecompressSync],
      ['gzip, deflate', 'gzip', gunzipSync],
      ['br;q=0, gzip', 'gzip', gunzipSync],
    ] as const) {
      const packed = await get(path, { 'accept-encoding': accepted });
      expect([packed.status, packed.headers['content-encoding'], packed.headers.vary]).toEqual([
        200,
        encoding,
        'Accept-Encoding',
      ]);
      expect(packed.headers['content-type']).toBe(plain.headers['content-type']);
      expect(packed.headers['content-length']).toBe(String(packed.body.length));
      expect(packed.body.length).toBeLessThan(plain.body.length * 0.8);
      expect(unpack(packed.body).equals(plain.body)).toBe(true);
    }
  },
);

test('a client that already has a file gets 304 only if it asks for the file in the same encoding', async () => {
  const path = '/checkout/assets/page.js';
  const etags = [];
  for (const accepted of ['br', 'gzip', 'identity']) {
    const headers = { 'accept-encoding': accepted };
    const { headers: first } = await get(path, headers);
    const etag = String(first.etag);
    etags.push(etag);
    const again = await get(path, { ...headers, 'if-none-match': etag });
    expect([again.status, again.body.length, again.headers.etag]).toEqual([304, 0, etag]);
    expect([again.headers['cache-control'], again.headers.vary]).toEqual(['no-cache', 'Accept-Encoding']);
    const changed = await get(path, { ...headers, 'if-none-match': '"another"' });
    expect([changed.status, changed.body.length > 0]).toEqual([200, true]);
  }
  expect(new Set(etags).size).toBe(3);
  const other = { 'accept-encoding': 'gzip', 'if-none-match': etags[0] ?? '' };
  expect((await get(path, other)).status).toBe(200);
});

test('a HEAD request gets the same headers as a GET request, but no body', async () => {
  const headers = { 'accept-encoding': 'br' };
  const { headers: whole } = await get('/checkout/assets/page.css', headers);
  const head = await get('/checkout/assets/page.css', headers, 'HEAD');
  expect([head.status, head.body.length]).toEqual([200, 0]);
  for (const name of ['content-length', 'content-encoding', 'content-type', 'etag', 'cache-control'])
    expect(head.headers[name], name).toBe(whole[name]);
});

test('an image that is already compressed is sent unchanged', async () => {
  const { headers } = await get('/docs/assets/favicon-32x32.png', { 'accept-encoding': 'br' });
  expect([headers['content-type'], headers['content-encoding']]).toEqual(['image/png', undefined]);
});

test('a browser that asks for /favicon.ico gets an icon', async () => {
  const { status, headers, body } = await get('/favicon.ico');
  expect([status, headers['content-type']]).toEqual([200, 'image/svg+xml']);
  expect(body.toString()).toContain('<svg');
});
