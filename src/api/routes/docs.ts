import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import express, { type Express, type Response } from 'express';
import { getAbsoluteFSPath } from 'swagger-ui-dist';
import { REFUSALS } from '../../domain/refusal.ts';
import { type Endpoint, endpoint } from '../endpoint/endpoint.ts';
import { openApiDocument } from '../endpoint/openapi.ts';
import { asset } from '../http/asset.ts';

/**
 * Serves the API reference: the OpenAPI document, a page that shows it, and the page of the problem codes. All files
 * come from this server.
 */

const SERVED = ['swagger-ui.css', 'swagger-ui-bundle.js', 'favicon-32x32.png'];

/** The documentation pages load only files of this server, and run no inline script or style. */
const PAGE_POLICY =
  "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

const head = (title: string, stylesheet: string) => `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>${title}</title>
<link rel="icon" href="/docs/assets/favicon-32x32.png">
<link rel="stylesheet" href="/docs/assets/${stylesheet}">
</head>`;

const REFERENCE = `${head('nodrop API', 'swagger-ui.css')}
<body>
<div id="reference"></div>
<script src="/docs/assets/swagger-ui-bundle.js"></script>
<script src="/docs/assets/reference.js"></script>
</body>
</html>
`;

const REFERENCE_SCRIPT = `SwaggerUIBundle({
  url: '/openapi.json',
  dom_id: '#reference',
  deepLinking: true,
  defaultModelsExpandDepth: 0,
  persistAuthorization: false,
  validatorUrl: null,
});
`;

const PROBLEMS_STYLE = `body { font: 1rem/1.5 system-ui, sans-serif; max-width: 50rem; margin: 2rem auto; padding: 0 1rem; }
table { border-collapse: collapse; width: 100%; }
th, td { text-align: left; padding: 0.4rem 0.8rem; border-bottom: 1px solid #ccc; }
tr:target { background: #fff3c4; }
`;

const PROBLEMS = `${head('nodrop problems', 'problems.css')}
<body>
<h1>Problems</h1>
<p>Every refused request is answered with <code>application/problem+json</code> (RFC 9457). Its <code>code</code> is stable.
Requests refused with 5xx may be repeated safely. See the <a href="/docs">reference</a>.</p>
<table>
<thead><tr><th>code</th><th>status</th><th>meaning</th></tr></thead>
<tbody>
${Object.entries(REFUSALS)
  .map(
    ([code, { status, title }]) =>
      `<tr id="${code}"><td><code>${code}</code></td><td>${status}</td><td>${title}.</td></tr>`,
  )
  .join('\n')}
</tbody>
</table>
</body>
</html>
`;

/**
 * @param others all other endpoints of the app. The OpenAPI document describes these endpoints and the three endpoints
 * of this file.
 */
export function docsRoutes(others: readonly Endpoint[], publicUrl: string): Endpoint[] {
  const page = { method: 'get', tag: 'Service', auth: 'none', refusals: [] } as const;
  const endpoints: Endpoint[] = [
    endpoint({
      ...page,
      path: '/openapi.json',
      operationId: 'getOpenApi',
      summary: 'This document',
      answers: { 200: { description: 'OpenAPI 3.1.', mediaType: 'application/json' } },
      async handle({ response }) {
        response.json(document);
      },
    }),
    endpoint({
      ...page,
      path: '/docs',
      operationId: 'getReference',
      summary: 'This document as a page',
      answers: { 200: { description: 'A page.', mediaType: 'text/html' } },
      async handle({ response }) {
        sendPage(response, REFERENCE);
      },
    }),
    endpoint({
      ...page,
      path: '/docs/problems',
      operationId: 'getProblems',
      summary: 'What the problem codes mean',
      answers: { 200: { description: 'A page; each code is an anchor.', mediaType: 'text/html' } },
      async handle({ response }) {
        sendPage(response, PROBLEMS);
      },
    }),
  ];
  const document = openApiDocument([...others, ...endpoints], publicUrl);
  return endpoints;
}

function sendPage(response: Response, html: string): void {
  response.set('Content-Security-Policy', PAGE_POLICY).type('html').send(html);
}

/** Serves the scripts, styles and images of the documentation pages. */
export function serveDocsAssets(app: Express): void {
  const dist = getAbsoluteFSPath();
  const assets = express.Router();
  const files = {
    ...Object.fromEntries(SERVED.map((name) => [name, readFileSync(join(dist, name))])),
    'reference.js': REFERENCE_SCRIPT,
    'problems.css': PROBLEMS_STYLE,
  };
  for (const [name, content] of Object.entries(files))
    assets.get(`/${name}`, asset(name, content, 'public, max-age=3600'));
  app.use('/docs/assets', assets);
  // The root URL redirects to the documentation.
  app.get('/', (_request, response) => response.redirect('/docs'));
}
