import { isDeepStrictEqual } from 'node:util';
import fc from 'fast-check';
import { expect } from 'vitest';
import {
  CallbackError,
  type CallbackRequest,
  type NewTrade,
  type VerifiedCallback,
} from '../../../src/domain/channel.ts';
import { eventually } from '../../support/progress.ts';
import { acknowledgement, type Bench, type ContractCase, damaged, type Outcome, outcomeOf } from './bench.ts';

/** Tests that a callback is accepted only if it is proven, and is acknowledged as the channel requires. */

/** Headers that every request has and no signature covers. */
const OF_HTTP = new Set(['host', 'connection', 'content-length', 'date', 'accept', 'user-agent']);
/** If a body has more bytes than this, the suite does not change each byte, but only some bytes of every region. */
const BYTES_CHANGED = 400;

export const callbackCases: readonly ContractCase[] = [
  {
    name: 'a callback about a paid trade names the trade, and reports no more than is proven',
    async run(bench) {
      const trade = await bench.create();
      const { verified } = await bench.callbackAfter(trade, () => bench.pay(trade));
      expectAbout(verified, trade);
      const { signed } = bench.protocol.callbacks;
      if (signed === undefined) expect(verified.kind).toBe('notice');
      const { amount, currency } = trade;
      if (verified.kind === 'trade')
        expect(verified.answer).toMatchObject({ state: 'paid', amount, currency });
      else expect(verified.kind).toBe('notice');
    },
  },
  {
    name: 'callbacks of two trades name their own trade, each with its own notification id',
    async run(bench) {
      const [one, two] = [await bench.create(), await bench.create()];
      const first = await bench.callbackAfter(one, () => bench.pay(one));
      const second = await bench.callbackAfter(two, () => bench.pay(two));
      expectAbout(first.verified, one);
      expectAbout(second.verified, two);
      expect(first.verified.notificationId).not.toBe(second.verified.notificationId);
      if (bench.protocol.callbacks.signed === undefined) return;
      // The proof of one callback must not prove another.
      const mixed = { headers: first.request.headers, rawBody: second.request.rawBody };
      if (!isDeepStrictEqual(first.request.headers, second.request.headers))
        await expectRefusedOr(bench, mixed, second.verified, "another trade's proof");
    },
  },
  {
    name: 'a callback that arrives before the answer to create is proven and names the trade',
    appliesTo: ({ protocol }) => !protocol.createsWithoutRequest,
    async run(bench) {
      const trade = bench.newTrade();
      await bench.loseLastAnswer('createTrade', { trade, refund: bench.refundOf(trade) });
      const { verified } = await bench.callbackAfter(trade, () => bench.pay(trade));
      const created = await bench.adapter.createTrade(bench.account, trade).catch(() => undefined);
      const reference =
        created === undefined || created === 'not_renewable' ? null : (created.reference ?? null);
      const found = await bench.adapter.findTrade?.(bench.account, trade);
      const known = found === undefined || found === 'absent' ? reference : found;
      expectAbout(verified, { ...trade, reference: known });
    },
  },
  {
    name: 'a callback that arrives twice is the same callback',
    async run(bench) {
      const trade = await bench.create();
      const { request, verified } = await bench.callbackAfter(trade, () => bench.pay(trade));
      expect(await bench.adapter.verifyCallback(bench.account, request)).toEqual(verified);
    },
  },
  {
    name: 'a refused callback is repeated with the same id; a stored one is not repeated',
    appliesTo: ({ protocol }) => protocol.callbacks.sendsAgain,
    async run(bench) {
      const trade = await bench.create();
      bench.nextOutcomes.push('refused');
      const { verified } = await bench.callbackAfter(trade, () => bench.pay(trade));
      await eventually(() => bench.received.length >= 2);
      const again = bench.received[1] as CallbackRequest;
      const { notificationId } = await bench.adapter.verifyCallback(bench.account, again);
      expect(notificationId).toBe(verified.notificationId);
      // The third callback is about the other trade. So the channel has not repeated the acknowledged callback in the
      // meantime.
      const other = await bench.create();
      await bench.callbackAfter(other, () => bench.pay(other));
      expect(bench.received).toHaveLength(3);
    },
  },
  {
    name: 'each outcome is answered as the channel requires',
    async run(bench) {
      for (const outcome of ['stored', 'ignored', 'refused', 'unreadable'] as const) {
        const answer = acknowledgement(bench.adapter, outcome);
        expect(Number.isInteger(answer.status) && answer.status >= 200 && answer.status < 600).toBe(true);
        expect(answer.type).toMatch(/^[a-z]+\/[a-z+-]+/);
        // If a callback is `unreadable`, the adapter decides whether the channel sends it again.
        if (outcome === 'unreadable') continue;
        const { isAcknowledged } = bench.protocol.callbacks;
        expect(isAcknowledged(answer), `${outcome}: ${answer.status} ${answer.body}`).toBe(
          outcome !== 'refused',
        );
      }
    },
  },
  {
    name: 'a callback with any byte changed, or truncated anywhere, is refused',
    appliesTo: ({ protocol }) => protocol.callbacks.signed !== undefined,
    async run(bench) {
      const trade = await bench.create();
      const { request, verified } = await bench.callbackAfter(trade, () => bench.pay(trade));
      const { length } = request.rawBody;
      const step = Math.max(1, Math.floor(length / BYTES_CHANGED));
      for (let at = 0; at < length; at += step) {
        for (const flipped of [0x01, 0x20, 0x80]) {
          const rawBody = Buffer.from(request.rawBody);
          rawBody[at] = (rawBody[at] ?? 0) ^ flipped;
          await expectRefusedOr(bench, { ...request, rawBody }, verified, `byte ${at} of ${length} changed`);
        }
        const cut = { ...request, rawBody: request.rawBody.subarray(0, at) };
        await expectRefused(bench, cut, `cut off at byte ${at} of ${length}`);
      }
      for (const added of [' ', '\n', '{}', '&a=b'])
        await expectRefusedOr(
          bench,
          { ...request, rawBody: Buffer.concat([request.rawBody, Buffer.from(added)]) },
          verified,
          `${JSON.stringify(added)} added`,
        );
    },
  },
  {
    name: 'a callback with changed or missing headers is refused, or has the same content',
    appliesTo: ({ protocol }) => protocol.callbacks.signed !== undefined,
    async run(bench) {
      const trade = await bench.create();
      const { request, verified } = await bench.callbackAfter(trade, () => bench.pay(trade));
      for (const [name, value] of Object.entries(request.headers)) {
        if (OF_HTTP.has(name) || typeof value !== 'string') continue;
        for (let at = 0; at < value.length; at++) {
          const other = value[at] === '1' ? '2' : '1';
          const changed = `${value.slice(0, at)}${other}${value.slice(at + 1)}`;
          const headers = { ...request.headers, [name]: changed };
          await expectRefusedOr(bench, { ...request, headers }, verified, `${name} changed at ${at}`);
        }
        for (const other of [undefined, '', 'null', ['a', 'b'], value.repeat(2)]) {
          const headers = { ...request.headers, [name]: other };
          await expectRefusedOr(bench, { ...request, headers }, verified, `${name}: ${other}`);
        }
      }
      const bare = { headers: {}, rawBody: request.rawBody };
      await expectRefusedOr(bench, bare, verified, 'without headers');
    },
  },
  {
    name: 'a callback for another account of the channel is refused',
    appliesTo: ({ protocol }) => protocol.callbacks.signed !== undefined,
    async run(bench) {
      const { theirs } = bench.contract;
      const trade = await bench.create();
      const { request } = await bench.callbackAfter(trade, () => bench.pay(trade));
      const verifying = theirs.adapter.verifyCallback(theirs.account, request);
      await expect(verifying).rejects.toMatchObject({ name: 'CallbackError', kind: 'unverified' });
    },
  },
  {
    name: 'a callback signed with older credentials counts during rotation',
    appliesTo: ({ ours, theirs, protocol }) =>
      protocol.callbacks.signed !== undefined &&
      ours.account.credentials.length > 0 &&
      theirs.account.credentials.length > 0,
    async run(bench) {
      const { ours, theirs } = bench.contract;
      const trade = await bench.create();
      const { request, verified } = await bench.callbackAfter(trade, () => bench.pay(trade));
      const credentials = [...theirs.account.credentials, ...ours.account.credentials];
      expect(await bench.adapter.verifyCallback({ ...ours.account, credentials }, request)).toEqual(verified);
    },
  },
  {
    name: 'a callback that is too old or from the future is refused',
    appliesTo: ({ protocol }) => typeof protocol.callbacks.signed?.toleranceMs === 'number',
    async run(bench) {
      const { signed } = bench.protocol.callbacks;
      if (signed === undefined || signed.toleranceMs === null) return;
      const trade = await bench.create();
      const { request } = await bench.callbackAfter(trade, () => bench.pay(trade));
      const { toleranceMs } = signed;
      const at = async (offsetMs: number) =>
        await signed.sign(request.rawBody, new Date(Date.now() + offsetMs));
      // The control for the cases below: a callback that the suite signs within the tolerance is accepted.
      for (const offset of [0, 60_000 - toleranceMs, toleranceMs - 60_000])
        expectAbout(await bench.adapter.verifyCallback(bench.account, await at(offset)), trade);
      for (const offset of [-toleranceMs - 5_000, toleranceMs + 5_000, -86_400_000, 86_400_000])
        await expect(
          bench.adapter.verifyCallback(bench.account, await at(offset)),
          `signed ${offset} ms from now`,
        ).rejects.toMatchObject({ name: 'CallbackError', kind: 'unverified' });
    },
  },
  {
    name: 'a proven callback with nonsense is malformed or ignored, and never counts for a trade',
    appliesTo: ({ protocol }) => protocol.callbacks.signed !== undefined,
    async run(bench) {
      const { signed } = bench.protocol.callbacks;
      await fc.assert(
        fc.asyncProperty(nonsense, async (text) => {
          const request = await signed?.sign(Buffer.from(text), new Date());
          if (request === undefined) return;
          const outcome = await outcomeOf(() => bench.adapter.verifyCallback(bench.account, request));
          if ('error' in outcome) expect(outcome.error).toBeInstanceOf(CallbackError);
          else expect((outcome.answer as VerifiedCallback).kind).toBe('ignored');
        }),
        { numRuns: 300 },
      );
    },
  },
  {
    name: 'a proven callback with a missing or changed part is malformed, or about its trade',
    appliesTo: ({ protocol }) => protocol.callbacks.signed !== undefined,
    async run(bench) {
      const { signed } = bench.protocol.callbacks;
      const trade = await bench.create();
      const { request } = await bench.callbackAfter(trade, () => bench.pay(trade));
      for (const body of damaged(request.rawBody.toString('utf8'))) {
        const other = await signed?.sign(Buffer.from(body), new Date());
        const outcome = await outcomeOf(
          async () => other && (await bench.adapter.verifyCallback(bench.account, other)),
        );
        if ('error' in outcome) expect(outcome.error, body).toBeInstanceOf(CallbackError);
        else {
          const verified = outcome.answer as VerifiedCallback;
          if (verified.kind === 'trade')
            expect(['closed', 'failed', 'refunded']).not.toContain(verified.answer.state);
        }
      }
    },
  },
  {
    name: 'a callback without proof is a notice, ignored or refused, whatever its content',
    async run(bench) {
      await fc.assert(
        fc.asyncProperty(nonsense, async (text) => {
          const request = { headers: { 'content-type': 'application/json' }, rawBody: Buffer.from(text) };
          const outcome = await outcomeOf(() => bench.adapter.verifyCallback(bench.account, request));
          if ('error' in outcome) expect(outcome.error).toBeInstanceOf(CallbackError);
          else {
            expect(
              bench.protocol.callbacks.signed,
              'the adapter accepted a callback without proof',
            ).toBeUndefined();
            expect(['notice', 'ignored']).toContain((outcome.answer as VerifiedCallback).kind);
          }
        }),
        { numRuns: 200 },
      );
    },
  },
  {
    name: 'the number in an unproven body is at most a number of the right form',
    async run(bench) {
      const trade = await bench.create();
      const { request } = await bench.callbackAfter(trade, () => bench.pay(trade));
      expect([trade.outTradeNo, undefined]).toContain(bench.adapter.peekOutTradeNo(request.rawBody));
      const bytes = fc.oneof(
        nonsense.map((text) => Buffer.from(text)),
        fc.uint8Array().map((content) => Buffer.from(content)),
      );
      fc.assert(
        fc.property(bytes, (rawBody) => {
          expect(bench.adapter.peekOutTradeNo(rawBody) ?? 'none').toMatch(/^[0-9A-Za-z_]{1,32}$/);
        }),
        { numRuns: 300 },
      );
    },
  },
  {
    name: 'a callback that is not about our trades is ignored and acknowledged',
    appliesTo: ({ channel }) => channel.sendUnrelated !== undefined,
    async run(bench) {
      await bench.channel.sendUnrelated?.();
      await eventually(() => bench.received.length > 0);
      const verified = await bench.adapter.verifyCallback(
        bench.account,
        bench.received[0] as CallbackRequest,
      );
      expect(verified).toMatchObject({ kind: 'ignored', reason: expect.stringMatching(/./) });
    },
  },
  {
    name: 'a callback about a refund that succeeded has its numbers, or makes nodrop query the channel',
    async run(bench) {
      const trade = await bench.createPaid();
      const refund = bench.refundOf(trade);
      await eventually(() => bench.received.length > 0);
      const { verified } = await bench.callbackAfter(trade, async () => {
        await bench.refund(trade, refund);
        await bench.channel.finishRefunds?.();
      });
      expect(verified.kind).not.toBe('dispute');
      if (verified.kind === 'ignored') return;
      expectAbout(verified, trade);
      const told = 'refund' in verified ? verified.refund : undefined;
      if (told?.outRefundNo !== undefined) expect(told.outRefundNo).toBe(refund.outRefundNo);
      if (told?.answer.state === 'succeeded') expect(told.answer.amount).toBe(refund.amount);
    },
  },
  {
    name: 'a callback about a dispute names its trade, or makes nodrop query the channel',
    appliesTo: ({ channel }) => channel.dispute !== undefined,
    async run(bench) {
      const trade = await bench.createPaid();
      await eventually(() => bench.received.length > 0);
      const { verified } = await bench.callbackAfter(trade, async () =>
        bench.channel.dispute?.(trade, 'open'),
      );
      if (verified.kind === 'ignored') return;
      expectAbout(verified, trade);
      if (verified.kind === 'dispute')
        expect(verified.dispute).toMatchObject({
          state: 'open',
          amount: trade.amount,
          currency: trade.currency,
        });
    },
  },
];

function expectAbout(
  verified: VerifiedCallback,
  { outTradeNo, reference }: Pick<NewTrade, 'outTradeNo' | 'reference'>,
) {
  if (verified.kind === 'ignored') return expect.fail(`a callback about our trade was ignored`);
  const { about } = verified;
  const { outTradeNo: no, reference: id, channelPaymentId } = about;
  expect(no ?? id ?? channelPaymentId, 'the trade that the callback is about').toBeDefined();
  if (about.outTradeNo !== undefined) expect(about.outTradeNo).toBe(outTradeNo);
  if (about.reference !== undefined && reference !== null) expect(about.reference).toBe(reference.id);
  // nodrop can find a payment by the channel's own id only if the payment already has this id.
  if (no === undefined && id !== undefined) expect(reference, 'the only name of the trade').not.toBeNull();
}

async function verifyingOf(bench: Bench, request: CallbackRequest): Promise<Outcome> {
  return await outcomeOf(() => bench.adapter.verifyCallback(bench.account, request));
}

async function expectRefused(bench: Bench, request: CallbackRequest, what: string): Promise<void> {
  const outcome = await verifyingOf(bench, request);
  if (!('error' in outcome)) return expect.fail(`${what}: accepted as ${JSON.stringify(outcome.answer)}`);
  expect(outcome.error, what).toBeInstanceOf(CallbackError);
}

/**
 * Expects that the changed callback is refused, or has the same content as before the change. If the content is the
 * same, the changed part has no meaning.
 */
async function expectRefusedOr(bench: Bench, request: CallbackRequest, same: VerifiedCallback, what: string) {
  const outcome = await verifyingOf(bench, request);
  if ('error' in outcome) expect(outcome.error, what).toBeInstanceOf(CallbackError);
  else expect(outcome.answer, what).toEqual(same);
}

const nonsense = fc.oneof(
  fc.json(),
  fc.string(),
  fc.constantFrom('', '{}', 'null', '{"type":"paid"}', 'id=', 'a=b&c=d', '{"data":{"object":{}}}', '<xml/>'),
  fc
    .dictionary(
      fc.constantFrom('type', 'id', 'data', 'object', 'state', 'event', 'resource'),
      fc.oneof(
        fc.constantFrom('paid', 'trade.succeeded', 'refund', 'SUCCESS', 'x'),
        fc.object({ maxDepth: 2 }),
      ),
    )
    .map((content) => JSON.stringify(content)),
);
