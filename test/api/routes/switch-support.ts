import { beforeEach } from 'vitest';
import { endPayment, recordAnswer } from '../../../src/ledger/payments.ts';
import { StandInWorkflows, settle as settlePaid, setUp } from '../support.ts';

/** Support for the tests of channel switches: an API whose channel answers "unpaid". */

export const { database, api, key, merchantId } = await setUp();
beforeEach(() => {
  const { onAwaitNextAction } = new StandInWorkflows(api.db);
  Object.assign(api.workflows, { down: false, onAwaitNextAction, onAskChannel: unpaid });
  api.workflows.calls.length = 0;
});

/** The channel answers "unpaid". The payment's workflow closes an attempt after a request to cancel it. */
const unpaid: StandInWorkflows['onAskChannel'] = async ({ id }) => {
  await recordAnswer(api.db, id, { state: 'unpaid' }, 'query', new Date());
  setImmediate(() => void endPayment(api.db, id, 'cancelled', 'a new attempt', new Date()));
  return true;
};

export const settle = (id: string) => settlePaid(api.db, id);

export const to = (id: string, as: string, body: unknown = { channel: 'simulator2' }) =>
  api.call(`/v1/payments/${id}/switch`, { key: as, body });
export const seen = async (id: string, as: string) =>
  (await api.call(`/v1/payments/${id}`, { key: as })).json;
