import type { Answer } from '../../channels/contract/http.ts';

export const hal = (status: number, body: object): Answer => ({
  status,
  headers: { 'content-type': 'application/hal+json' },
  body: JSON.stringify(body),
});

const TITLES: Readonly<Record<number, string>> = {
  400: 'Bad Request',
  401: 'Unauthorized Request',
  404: 'Not Found',
  409: 'Conflict',
  422: 'Unprocessable Entity',
  429: 'Too Many Requests',
};

/** A refusal in the format of https://docs.mollie.com/reference/handling-errors. */
export const problem = (status: number, detail: string, field?: string): Answer =>
  hal(status, {
    ...{ status, title: TITLES[status] ?? 'Error', detail },
    ...(field === undefined ? {} : { field }),
    _links: {
      documentation: { href: 'https://docs.mollie.com/reference/handling-errors', type: 'text/html' },
    },
  });
