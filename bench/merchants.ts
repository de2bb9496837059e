import { Payments } from './payments.ts';
import { describeRate, type Round, rateOf, round } from './rounds.ts';
import { type BenchMerchant, makeMerchant, startService } from './service.ts';
import { partsOf } from './throughput.ts';

const MANY = 40;
const ROUNDS = 2;

/**
 * Compares the payment rate of one merchant with that of 40 merchants. Payments of one merchant share rows, and each
 * payment must lock these rows.
 */
export async function merchants(): Promise<object> {
  const service = await startService({ NODROP_QUERY_SCHEDULE: '1h' });
  const all: BenchMerchant[] = [];
  for (let n = 1; n <= MANY; n++) all.push(await makeMerchant(service, `merchant-${n}`));
  const payments = await Payments.open(service);
  const pids = partsOf(service);
  let next = 0;
  const payFor = (some: readonly BenchMerchant[]) => async () => {
    next += 1;
    const merchant = some[next % some.length];
    if (merchant !== undefined) await payments.payOnce(merchant);
  };
  const ofOne: Round<keyof typeof pids>[] = [];
  const ofMany: Round<keyof typeof pids>[] = [];
  for (let n = 1; n <= ROUNDS; n++) {
    ofOne.push(await round(`one merchant, round ${n} of ${ROUNDS}`, { once: payFor(all.slice(0, 1)), pids }));
    ofMany.push(await round(`${MANY} merchants, round ${n} of ${ROUNDS}`, { once: payFor(all), pids }));
  }
  const [one, many] = [rateOf(ofOne), rateOf(ofMany)];
  console.log(`one merchant: ${describeRate(one)}`);
  console.log(`${MANY} merchants: ${describeRate(many)}`);
  return { one, many, merchants: MANY, refusedRequests: payments.refused };
}
