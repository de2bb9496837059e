import type { Express, Request, Response } from 'express';
import { z } from '../http/zod.ts';
import { CHECKOUT_POLICY, type Language } from './shell.ts';

/** What the payer's browser opens: the cashier page, and the way back from the wallet. */

/**
 * A parameter of an address that people open: of several the first counts, and none is too long. A person is answered
 * with a page, and not with what is wrong with the request.
 */
export const pageParameter = z.preprocess(
  (value: unknown) => (Array.isArray(value) ? value[0] : value),
  z.string().optional(),
);

/** What the address says (`?lang=`), and else what the browser prefers. */
export function languageOf(request: Request): Language {
  const [chosen] = [request.query.lang].flat();
  if (chosen === 'en' || chosen === 'zh') return chosen;
  return request.acceptsLanguages('en', 'zh') === 'zh' ? 'zh' : 'en';
}

/** @param policy of a page that loads more than our own files */
export function sendPage(response: Response, status: number, html: string, policy = CHECKOUT_POLICY): void {
  response
    .status(status)
    .set({
      'Cache-Control': 'no-store',
      'Content-Security-Policy': policy,
      'Referrer-Policy': 'no-referrer',
      Vary: 'Accept-Language',
    })
    .type('html')
    .send(html);
}

/**
 * The form of the page for its other language: it is answered with the same address in that language, which is kept by
 * every look of the page at itself. Of the same page it always leads to the same one, however often it is sent.
 */
export function serveLanguageChoice(app: Express): void {
  app.post(['/checkout/:id', '/return/:id'], (request, response) => {
    const query = new URLSearchParams(/\?(.*)$/s.exec(request.url)?.[1]);
    query.set('lang', languageOf(request) === 'zh' ? 'en' : 'zh');
    response.set({ 'Cache-Control': 'no-store', 'Referrer-Policy': 'no-referrer' });
    response.redirect(303, `?${query}`);
  });
}

/**
 * Sends a browser on whose address ends in a slash, as from there everything relative would lead elsewhere.
 * @returns false when it does not.
 */
export function leaveSlash(request: Request, response: Response, id: string): boolean {
  if (!request.path.endsWith('/')) return false;
  const [, search = ''] = /^[^?]*(.*)$/s.exec(request.url) ?? [];
  response.set({ 'Cache-Control': 'no-store', 'Referrer-Policy': 'no-referrer' });
  response.redirect(308, `../${encodeURIComponent(id)}${search}`);
  return true;
}
