import { beforeEach, expect } from 'vitest';
import { ChannelError } from '../../src/domain/channel.ts';
import { recordRefundAnswer } from '../../src/ledger/refund-answers.ts';
import { settle, setUp } from './support.ts';

/** Support for the tests of attentions: starts an API with an operator's key, and checks what each attention shows. */

export const { api, key, merchantId } = await setUp({ role: 'operator' });

beforeEach(() => {
  api.workflows.onAskChannel = async () => true;
});

const START = Date.now();
export const at = (seconds: number) => new Date(START + seconds * 1000);
export const SILENCE = new ChannelError('unreachable', 'no answer in time');
export const get = async (id: string) => (await api.call(`/v1/payments/${id}`, { key })).json;
const needAttention = async () => {
  const { data } = (await api.call('/v1/payments?attention=true&limit=100', { key })).json;
  return (data as { id: string }[]).map(({ id }) => id);
};

export async function expectShown(id: string, attention: string, since: Date, sentence: string) {
  expect(await get(id)).toMatchObject({
    attention,
    attentionSince: since.toISOString(),
    attentionDetail: expect.stringContaining(sentence),
  });
  expect(await needAttention()).toContain(id);
}
export async function expectOver(id: string) {
  expect(await get(id)).toMatchObject({ attention: null, attentionSince: null, attentionDetail: null });
  expect(await needAttention()).not.toContain(id);
}

/** Records that the channel reports the amount as received at this time, and settles the payment. */
export const paid = (id: string, amount = 1050, when = at(0)) => settle(api.db, id, { amount }, when);
/** Records that the channel reports the refund as succeeded with its requested amount. */
export async function givenBack(refundId: string, when: Date) {
  const { amount } = await api.db.refund.findUniqueOrThrow({ where: { id: refundId } });
  const answer = { state: 'succeeded', channelRefundId: 'R', amount: Number(amount) } as const;
  await recordRefundAnswer(api.db, refundId, answer, when);
}
