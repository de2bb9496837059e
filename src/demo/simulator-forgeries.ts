import { randomBytes, randomUUID } from 'node:crypto';
import { sign, signer } from '../channels/simulator/protocol.ts';
import type { Payer } from './payers.ts';

/**
 * Three forged callbacks: without a signature, signed with a wrong secret, and with the signature of another payment's
 * callback.
 */
export function forgedCallbacks(payer: Payer, paymentId: string, secret: string) {
  const claim = (outTradeNo: string) => JSON.stringify(paidCallback(payer, outTradeNo));
  const body = claim(paymentId);
  return [
    {},
    signed(`whsec_${randomBytes(32).toString('base64')}`, body),
    // Takes a genuine callback about the forger's own payment, keeps its signature, and replaces the body by one about
    // another payment.
    signed(secret, claim(`pay_${'0'.repeat(26)}`)),
  ].map((headers) => ({ path: '/callbacks/simulator', headers, body }));
}

function paidCallback({ amount, currency }: Payer, outTradeNo: string) {
  const transactionId = `sim_${randomUUID()}`;
  const paidAt = new Date().toISOString();
  return {
    type: 'trade.succeeded',
    data: { outTradeNo, state: 'SUCCESS', amount, currency, transactionId, paidAt, refunded: 0 },
  };
}

const signed = (secret: string, body: string) => sign(signer(secret), `msg_${randomUUID()}`, body);
