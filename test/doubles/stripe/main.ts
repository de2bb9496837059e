// node --import tsx test/doubles/stripe/main.ts
//
// A Stripe double for tests. It is a process with its own books. It implements the part of Stripe's API that the
// adapter uses, and refuses what Stripe refuses. Commands at /_control act as a payer, as a bank or as the merchant in
// the dashboard, or inject faults. The double prints its address once it listens, and ends when its standard input
// ends.
import { serveStripe } from './server.ts';

const { url } = await serveStripe(Number(process.env.PORT ?? 0));
console.log(url);
process.stdin.resume().once('end', () => process.exit(0));
