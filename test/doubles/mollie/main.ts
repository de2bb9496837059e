// node --import tsx test/doubles/mollie/main.ts
//
// A Mollie double for tests. It is a process with its own books. It implements the part of Mollie's REST API that
// the adapter uses, and refuses what Mollie's documents say it refuses. Commands at /_control act as a payer, as a bank
// or as the merchant in the dashboard, or inject faults. The double prints its address once it listens, and ends when
// its standard input ends.
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
  // If a fault makes the request hang, the double never sends the answer.
  if (fault !== undefined) return 'nothing';
  return { ...answer, headers: { ...answer.headers, date: new Date(books.now()).toUTCString() } };
});
books.url = server.url;
console.log(server.url);
process.stdin.resume().once('end', () => process.exit(0));
