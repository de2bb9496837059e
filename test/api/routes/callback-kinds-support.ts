import { randomUUID } from 'node:crypto';
import { afterAll, beforeAll, beforeEach } from 'vitest';
import type { VerifiedCallback } from '../../../src/domain/channel.ts';
import { createApiKey, ensureMerchant } from '../../../src/ledger/merchants.ts';
import { SIGNING, signed, signingChannel } from '../../support/signing-channel.ts';
import { pay, setUp, startTestApi, type TestApi, testChannels } from '../support.ts';

/**
 * Support for the tests of all kinds of callbacks. It provides two APIs, and a channel that sends every kind of
 * callback.
 */

const signing = signingChannel();
/** If set, only the next verification of a callback throws this error. */
export const failure: { next?: Error | undefined } = {};
const channels = new Map([
  ...testChannels(),
  [
    SIGNING,
    {
      ...signing,
      verifyCallback: async (...given: Parameters<typeof signing.verifyCallback>) => {
        const error = failure.next;
        failure.next = undefined;
        if (error !== undefined) throw error;
        return await signing.verifyCallback(...given);
      },
    },
  ],
]);
export const { api, database } = await setUp({ channels });
export let second: TestApi;
export let key: string;
export let accountId: string;
export let other: string;
beforeAll(async () => {
  second = await startTestApi(database.url, { channels });
  const account = async (name: string) => {
    const { merchant } = await ensureMerchant(api.db, name, [SIGNING]);
    const { id } = await api.db.channelAccount.findFirstOrThrow({ where: { merchantId: merchant.id } });
    return { id, merchantId: merchant.id };
  };
  const own = await account('own');
  key = (await createApiKey(api.db, own.merchantId, 'operator')).key;
  accountId = own.id;
  other = (await account('other')).id;
});
afterAll(() => second.close());
beforeEach(() => {
  for (const { workflows } of [api, second]) {
    workflows.down = false;
    workflows.calls.length = 0;
  }
  api.refundWorkflows.calls.length = 0;
});

export const newPayment = async () => {
  const made = await pay(api, key, { channel: SIGNING });
  api.workflows.calls.length = 0;
  return made;
};
export const row = (id: string) => api.db.payment.findUniqueOrThrow({ where: { id } });
export const give = async (id: string, reference = `tr_${randomUUID()}`) => {
  await api.db.payment.update({ where: { id }, data: { reference } });
  return reference;
};
export const send = (
  callback: VerifiedCallback,
  to = `/callbacks/${SIGNING}/${accountId}`,
  by: TestApi = api,
) => by.call(to, signed(callback));
export const ofId = () => `n_${randomUUID()}`;
export const timeline = async (paymentId: string) =>
  (await api.db.timelineEntry.findMany({ where: { paymentId }, orderBy: { id: 'asc' } })).map(
    ({ detail }) => detail,
  );
