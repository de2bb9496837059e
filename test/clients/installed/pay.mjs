// Takes a payment with the installed package. Its arguments are the API's address and a merchant's key.
import { createClient } from '@nodrop/client';
import { createServerClient, NodropError } from '@nodrop/client/server';

const [baseUrl, key] = process.argv.slice(2);

const server = createServerClient({ baseUrl, key });
const order = { id: `order-esm-${process.pid}`, amount: 1050, currency: 'CNY' };
const { id, clientToken } = await server.createPayment({ order, channel: 'simulator' });
const { orderState } = await createClient({ baseUrl }).getPayment(id, { token: clientToken });
const code = await server.getPayment('pay_1').catch((error) => error instanceof NodropError && error.code);
const loaded = ['@nodrop/client', '@nodrop/client/server'].map(
  (name) => new URL(import.meta.resolve(name)).pathname,
);
console.log(JSON.stringify({ id, orderState, code, loaded }));
