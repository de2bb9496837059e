import express, { type Request, type RequestHandler } from 'express';
import { Refusal } from '../../domain/refusal.ts';
import { readBody } from '../../request-bounds.ts';

/** Reads request bodies. Limits their size, and never guesses their type. */

/** Maximum size of a request body in bytes, for every route of every listener. */
export const BODY_LIMIT = 256 * 1024;

/** Reads any body unchanged into `request.body`. The unchanged bytes are needed to verify signatures. */
export const readRaw: RequestHandler = readBody(
  express.raw({ type: () => true, limit: BODY_LIMIT }),
  BODY_LIMIT,
);

/** The bytes that `readRaw` read. */
export const rawBody = (request: Request): Buffer =>
  Buffer.isBuffer(request.body) ? request.body : Buffer.alloc(0);

/** @throws Refusal `unsupported_media_type` if the headers do not declare the body as JSON in UTF-8 */
export function requireJson(request: Request): void {
  const type = request.headers['content-type'] ?? '';
  const [, charset] = /charset="?([\w-]+)/i.exec(type) ?? [];
  const isJson = /^application\/([\w.-]+\+)?json\s*(;|$)/i.test(type);
  if (!isJson || (charset !== undefined && !/^utf-?8$/i.test(charset))) {
    throw new Refusal('unsupported_media_type', 'Send the header Content-Type: application/json.');
  }
}

/**
 * Parses a JSON body. A number in a request must be an integer in plain digits. JSON.parse would turn `1e3`, `1.0` and
 * `1.0000000000000000001` into integers without an error. So this function turns such numbers into Infinity, which
 * every schema rejects.
 * @throws Refusal `bad_request`
 */
export function parseJson(body: Buffer): unknown {
  try {
    const text = new TextDecoder('utf-8', { fatal: true }).decode(body);
    const value: unknown = JSON.parse(text);
    // The text is valid JSON at this point. So each string that the pattern finds has a closing quote.
    const exact = text.replace(STRING_OR_NUMBER, (token) =>
      /^-?\d+$/.test(token) || token.startsWith('"') ? token : '1e999',
    );
    return exact === text ? value : JSON.parse(exact);
  } catch (error) {
    throw new Refusal('bad_request', `The body is not JSON: ${(error as Error).message}.`, { cause: error });
  }
}

const STRING_OR_NUMBER = /"(?:[^"\\]|\\.)*"|-?\d[\d.eE+-]*/g;
