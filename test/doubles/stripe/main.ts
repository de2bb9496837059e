// node --import tsx test/doubles/stripe/main.ts
//
// A Stripe of our own for tests: a process with its own books, which speaks as much of Stripe's API as the adapter uses
// and refuses what Stripe refuses. What a payer, a bank, a merchant at the dashboard or a bad day does is asked of it at
// /_control. It prints its address as soon as it listens, and ends with its standard input.
import { serveStripe } from './server.ts';

const { url } = await serveStripe(Number(process.env.PORT ?? 0));
console.log(url);
process.stdin.resume().once('end', () => process.exit(0));
