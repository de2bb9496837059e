import { setMerchant } from '../src/ledger/merchants.ts';
import { type OrderService, startOrderService } from '../test/support/order-service.ts';
import { type PaymentToCount, type PollCosts, startCounting } from './costs.ts';
import { atEnd } from './ending.ts';
import { makeMerchant, type Service, startService } from './service.ts';

const SAMPLES = 3;

/**
 * With these settings, only callbacks settle payments at `simulator`. At `simulator2`, polls also settle payments. The
 * first poll runs after 5 s.
 */
export const COUNTED_SETTINGS = {
  NODROP_QUERY_SCHEDULE_SIMULATOR: '1h',
  NODROP_QUERY_SCHEDULE_SIMULATOR2: '5s,2s',
};

/** Measures how many events, workflow tasks, statements and bytes of WAL a payment needs, for each way to settle it. */
export async function counts(): Promise<object> {
  const service = await startService(COUNTED_SETTINGS);
  const { config } = service;
  const shop = await startOrderService();
  atEnd(() => shop.close());
  const keys = await makeCountedMerchants(service, shop);
  const counter = await startCounting(service);
  atEnd(() => counter.close());
  const count = async (what: string, payment: PaymentToCount) => {
    console.log(`Counting ${SAMPLES} payments settled by ${payment.by}, ${what} ...`);
    const costs = leastOf(await counter.payments(SAMPLES, payment));
    const { events, workflowTasks, statements, transactionControl, walBytes } = costs;
    console.log(
      `  ${events} events, ${workflowTasks} workflow tasks, ${statements} statements (${transactionControl} of them begin or end a transaction), ${walBytes} bytes of WAL`,
    );
    return costs;
  };
  // The first payment is not measured, because it fills the caches of the processes.
  const callback = { channel: 'simulator', by: 'callback' } as const;
  await counter.payments(1, { ...callback, key: keys.plain });
  const byCallback = await count('no order service', { ...callback, key: keys.plain });
  const byCallbackTold = await count('with an order service', { ...callback, key: keys.told });
  await dropCallbacks(config.simulator.url);
  const only = { channel: 'simulator', key: keys.plain } as const;
  const byHint = await count('no order service', { ...only, by: 'hint' });
  const byQuery = await count('no order service', { ...only, by: 'query' });
  const byCancel = await count('no order service', { ...only, by: 'cancel' });
  const poll = { channel: 'simulator2', by: 'poll' } as const;
  const byPoll = await count('no order service', { ...poll, key: keys.plain });
  const byPollTold = await count('with an order service', { ...poll, key: keys.told });
  console.log('Counting polls of an unpaid payment ...');
  const unpaidPoll: PollCosts = leastOf(
    await counter.unpaidPolls(SAMPLES, { key: keys.plain, channel: 'simulator2' }),
  );
  console.log(
    `  ${unpaidPoll.statements} statements (${unpaidPoll.transactionControl} of them begin or end a transaction), ${unpaidPoll.locks} locks, ${unpaidPoll.newRows} new rows, ${unpaidPoll.walBytes} bytes of WAL`,
  );
  return {
    payments: {
      callback: byCallback,
      callbackAndOrderService: byCallbackTold,
      poll: byPoll,
      pollAndOrderService: byPollTold,
      hint: byHint,
      query: byQuery,
      cancel: byCancel,
    },
    unpaidPoll,
  };
}

/** @returns the costs of the payment or poll with the fewest statements @throws RangeError if `all` is empty */
function leastOf<Costs extends { readonly statements: number }>(all: readonly Costs[]): Costs {
  const [least] = all.toSorted((a, b) => a.statements - b.statements);
  if (least === undefined) throw new RangeError('At least one sample is needed.');
  return least;
}

/**
 * Creates a merchant without an order service, and another merchant with the given order service. @returns their API
 * keys
 */
export async function makeCountedMerchants(
  service: Pick<Service, 'config' | 'db'>,
  shop: OrderService,
): Promise<{ plain: string; told: string }> {
  const plain = await makeMerchant(service, 'plain');
  const told = await makeMerchant(service, 'told');
  const settings = { orderServiceUrl: shop.url, orderStatusUrl: shop.statusUrl };
  const set = await setMerchant(service.db, told.name, settings, service.config.secret, new Date());
  shop.secret = set?.secret ?? '';
  return { plain: plain.key, told: told.key };
}

/** Makes the simulator drop all callbacks from now on. @throws Error when the simulator refuses */
export async function dropCallbacks(simulatorUrl: string): Promise<void> {
  const answer = await fetch(`${simulatorUrl}/_control/faults`, {
    method: 'PUT',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ callback: { dropRate: 1 } }),
  });
  if (!answer.ok) throw new Error(`The simulator answered ${answer.status}: ${await answer.text()}`);
}
