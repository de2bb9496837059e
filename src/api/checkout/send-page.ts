import type { Express, Request, Response } from 'express';
import { z } from '../http/zod.ts';
import { CHECKOUT_POLICY, type Language } from './shell.ts';

/** Helpers for the routes that payers open in a browser: the cashier page and the return from the wallet. */

/**
 * A query parameter of a page's URL. If the URL has the parameter several times, the first value is used. The parameter
 * has no maximum length, so that a payer always gets a page and not a problem document.
 */
export const pageParameter = z.preprocess(
  (value: unknown) => (Array.isArray(value) ? value[0] : value),
  z.string().optional(),
);

/** Returns the language of the page. This is `lang` in the URL, or otherwise the language that the browser prefers. */
export function languageOf(request: Request): Language {
  const [chosen] = [request.query.lang].flat();
  if (chosen === 'en' || chosen === 'zh') return chosen;
  return request.acceptsLanguages('en', 'zh') === 'zh' ? 'zh' : 'en';
}

/** Sends a page. @param policy the Content-Security-Policy, for a page that also loads files of a channel */
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
 * Handles the button that changes the language of the page. The handler redirects to the same URL with `lang`, so that
 * a reload keeps the language.
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
 * Redirects a URL that ends in a slash to the same URL without the slash. With the slash, the page's relative URLs
 * would be wrong.
 * @returns false if the URL does not end in a slash. In that case, the function has not sent an answer.
 */
export function leaveSlash(request: Request, response: Response, id: string): boolean {
  if (!request.path.endsWith('/')) return false;
  const [, search = ''] = /^[^?]*(.*)$/s.exec(request.url) ?? [];
  response.set({ 'Cache-Control': 'no-store', 'Referrer-Policy': 'no-referrer' });
  response.redirect(308, `../${encodeURIComponent(id)}${search}`);
  return true;
}
