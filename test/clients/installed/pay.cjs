// Does the same as pay.mjs, by `require`.
const { createClient } = require('@nodrop/client');
const { createServerClient, NodropError } = require('@nodrop/client/server');

const [baseUrl, key] = process.argv.slice(2);

async function main() {
  const server = createServerClient({ baseUrl, key });
  const order = { id: `order-cjs-${process.pid}`, amount: 1050, currency: 'CNY' };
  const { id, clientToken } = await server.createPayment({ order, channel: 'simulator' });
  const { orderState } = await createClient({ baseUrl }).getPayment(id, { token: clientToken });
  const code = await server.getPayment('pay_1').catch((error) => error instanceof NodropError && error.code);
  const loaded = ['@nodrop/client', '@nodrop/client/server'].map((name) => require.resolve(name));
  console.log(JSON.stringify({ id, orderState, code, loaded }));
}

void main();
