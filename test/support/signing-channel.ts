import { createHmac } from 'node:crypto';
import { declarationOf } from '../../src/channels/simulator/adapter.ts';
import { validated } from '../../src/channels/validated-adapter.ts';
import { CallbackError, type ChannelAdapter, type VerifiedCallback } from '../../src/domain/channel.ts';
import { createSimulatorAdapter } from './simulator-adapter.ts';

/**
 * A channel whose callbacks can carry every field that an adapter can return. The body is the verified callback
 * as JSON, signed with an HMAC. The channel itself defines the body of the answer to a callback. A notice needs no
 * signature, as at channels that send unsigned forms.
 */

const SECRET = 'the secret of the signing channel';
const signatureOf = (body: Buffer | string): string =>
  createHmac('sha256', SECRET).update(body).digest('hex');

export const SIGNING = 'signing';

export function signingChannel(): ChannelAdapter {
  const simulator = createSimulatorAdapter({
    name: 'simulator',
    baseUrl: 'http://127.0.0.1:1',
    secret: `whsec_${Buffer.alloc(32, 9).toString('base64')}`,
  });
  return validated({
    ...simulator,
    declaration: { ...declarationOf('simulator'), name: SIGNING },
    async verifyCallback(_account, { headers, rawBody }) {
      const said = parse(rawBody);
      if (headers['x-signature'] !== signatureOf(rawBody) && said?.kind !== 'notice')
        throw new CallbackError('unverified', 'not signed');
      if (said === undefined) throw new CallbackError('malformed', 'not JSON');
      return said;
    },
    acknowledge: (outcome) =>
      outcome === 'refused'
        ? { status: 200, type: 'text/plain', body: 'fail' }
        : { status: 202, type: 'text/plain', body: outcome },
    peekOutTradeNo: () => undefined,
  });
}

function parse(body: Buffer): VerifiedCallback | undefined {
  try {
    return JSON.parse(body.toString('utf8'));
  } catch {
    return undefined;
  }
}

/** A request with this callback, for `api.call(path, ...)`. */
export function signed(callback: VerifiedCallback): { raw: string; headers: Record<string, string> } {
  const raw = JSON.stringify(callback);
  return { raw, headers: { 'content-type': 'application/json', 'x-signature': signatureOf(raw) } };
}
