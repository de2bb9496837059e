/**
 * Parses the curl commands that nodrop prints or documents. Tests can then send these requests on machines
 * without curl.
 */

/**
 * Finds the first `curl` command of the text.
 * @returns its URL and the values of `-X`, `-H` and `-d`
 */
export function readCurl(text: string): { url: string; init: RequestInit } {
  const [, url = ''] = /(https?:\/\/[^\s']+)/.exec(text) ?? [];
  const headers = [...text.matchAll(/-H ["']([^:"']+): ([^"']+)["']/g)].map(([, name, value]) => [
    name,
    value,
  ]);
  const [, body] = /-d '(.*)'/.exec(text) ?? [];
  const [, method = body === undefined ? 'GET' : 'POST'] = /-X (\w+)/.exec(text) ?? [];
  return {
    url,
    init: { method, headers: Object.fromEntries(headers), ...(body === undefined ? {} : { body }) },
  };
}
