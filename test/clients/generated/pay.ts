// Takes a payment by a client that openapi-typescript made. Arguments: the API's address, and that of a later API.
import createClient from 'openapi-fetch';
import type { components, paths } from './api.ts';

type Known = components['schemas']['KnownPaymentStatus'];
type Code = components['schemas']['KnownGetPaymentProblemCode'];

/** The compiler requires every known status here, and accepts no other. */
const isOver: Record<Known, boolean> = {
  created: false,
  paying: false,
  succeeded: true,
  failed: true,
  cancelled: true,
  closed: true,
};
const isKnown = (status: string): status is Known => Object.hasOwn(isOver, status);

const [apiUrl = '', laterUrl = ''] = process.argv.slice(2);
const headers = { authorization: 'Bearer sk_dev_nodrop' };
const say = (line: object) => console.log(JSON.stringify(line));

const client = createClient<paths>({ baseUrl: apiUrl, headers });
// The optional fields are left out: subject, metadata, expiry.
const body = {
  order: { id: 'order-typescript', amount: 1990, currency: 'CNY' },
  channel: 'simulator',
} satisfies components['schemas']['NewPayment'];
let payment: components['schemas']['Payment'];
do {
  const { data, error } = await client.POST('/v1/payments', { body });
  if (data === undefined) throw new Error(error.code);
  payment = data;
} while (payment.payUrl === null);
const { id } = payment;
say({ step: 'created', id });

for (let status = payment.status; !isKnown(status) || !isOver[status]; ) {
  const { data } = await client.GET('/v1/payments/{id}', { params: { path: { id }, query: { wait: 30 } } });
  status = data?.status ?? status;
  if (isKnown(status) && isOver[status]) say({ step: 'over', status });
}

const notFound: Code = 'payment_not_found';
const refused = await client.GET('/v1/payments/{id}', { params: { path: { id: 'pay_unknown' } } });
say({ step: 'refused', code: refused.error?.code, isKnown: refused.error?.code === notFound });

const later = createClient<paths>({ baseUrl: laterUrl, headers });
const { data } = await later.GET('/v1/payments/{id}', { params: { path: { id } } });
say({ step: 'later', status: data?.status, isKnown: isKnown(data?.status ?? '') });
const { error } = await later.GET('/v1/payments/{id}', { params: { path: { id: 'pay_unknown' } } });
say({ step: 'later refused', code: error?.code, isKnown: error?.code === notFound });
