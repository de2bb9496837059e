// node --import tsx test/doubles/mollie/main.ts
//
// A Mollie of our own for tests: a process with its own books, which speaks as much of Mollie's REST API as the adapter uses
// and refuses what Mollie's documents say it refuses. What a payer, a bank, a merchant at the dashboard or a bad day does is
// asked of it at /_control. It prints its address as soon as it listens, and ends with its standard input.
import { serve } from '../../channels/contract/http.ts';
import { handleApi } from './api.ts';
import { Books } from './books.ts';
import { control } from './control.ts';
import { page } from './page.ts';

const books = new Books();

const server = await serve(async (sent) => {
  const url = new URL(sent.path, 'http://double');
  if (url.pathname.startsWith('/_control/')) return control(books, url.pathname, sent.body);
  if (url.pathname.startsWith('/checkout/')) return page(books, sent.method, url.pathname, sent.body);
  books.requests.push(sent);
  const fault = books.takeFault(`${sent.method} ${sent.path}`);
  if (fault !== undefined && fault.kind !== 'accepted') return fault.answer;
  const answer = handleApi(books, sent, url);
  // The caller waits for an answer that never comes.
  if (fault !== undefined) return 'nothing';
  return { ...answer, headers: { ...answer.headers, date: new Date(books.now()).toUTCString() } };
});
books.url = server.url;
console.log(server.url);
process.stdin.resume().once('end', () => process.exit(0));
