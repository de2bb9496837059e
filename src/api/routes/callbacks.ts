import { isDeepStrictEqual } from 'node:util';
import { CallbackError, type ChannelAdapter, type Headers } from '../../domain/channel.ts';
import { Refusal } from '../../domain/refusal.ts';
import {
  type CallbackWithPayment,
  markDelivered,
  storeCallback,
  type TradeCallback,
} from '../../ledger/callbacks.ts';
import { isConstraintViolation, isRowGone } from '../../ledger/client.ts';
import { takeQueryDue } from '../../ledger/hints.ts';
import type { ChannelAccount, Payment } from '../../ledger/rows.ts';
import { deliverStored } from '../../temporal/deliver-callback.ts';
import { type AccountName, ChannelAccounts } from '../channel-accounts.ts';
import { SIGNAL_WITHIN_MS } from '../deadlines.ts';
import type { Api } from '../deps.ts';
import { type Endpoint, type Exchange, endpoint } from '../endpoint/endpoint.ts';
import { clientAddress } from '../http/client-address.ts';
import { Counts } from '../http/counts.ts';
import { tooMany } from '../http/misses.ts';
import { z } from '../http/zod.ts';
import { lookUpPayment } from '../payments/visible-payment.ts';
import { UnverifiedChecks } from '../unverified-checks.ts';

/** Whom a callback is for, and who sent it. */
interface Receiver {
  readonly adapter: ChannelAdapter;
  readonly name: AccountName;
  readonly address: string;
  readonly log: Api['log'];
}

/** A callback and the account that it is verified for. */
interface Verified {
  readonly account: ChannelAccount;
  readonly callback: TradeCallback;
}

const refuseAccount = ({ channel }: AccountName): never => {
  throw new Refusal('not_found', `There is no such account at channel ${channel}.`);
};

/** How many callbacks of an account an address may send in vain in a minute: beyond it they are refused without a query. */
export const UNVERIFIED_A_MINUTE = 100;
/** How often a minute an account is read at once as a signature fails, over all addresses; else once in 2 s. */
const READ_A_MINUTE = 60;
/** A payment that was asked about for an unverifiable callback is not looked at for the next one in this time. */
const LOOKED_AT_EVERY_MS = 10_000;
const LOOKED_AT_MOST = 10_000;

/**
 * Where channels call back: verified in memory, stored, delivered, acknowledged. The acknowledgement depends on
 * the storing alone; what could not be delivered now, the sweep delivers (P4). A callback is verified before the
 * bound of its address refuses it: what cannot be verified is counted, and costs no query beyond the bound. Only a process
 * that is overloaded with checks in vain refuses a callback without having checked it.
 */
export function callbackRoutes(api: Api): Endpoint[] {
  const { db, workflows, channels, metrics, misses, unverified, now } = api;
  const accounts = new ChannelAccounts(db, misses, now);
  const unverifiedCounts = new Counts({ atMost: UNVERIFIED_A_MINUTE, windowMs: 60_000 }, now);
  const accountReads = new Counts({ atMost: READ_A_MINUTE, windowMs: 60_000 }, now);
  const checks = new UnverifiedChecks(now);
  /** When payments were last looked at for a callback that cannot be read, in epoch ms, the oldest first. */
  const lookedAt = new Map<string, number>();

  /**
   * A callback that cannot be read is no news, but the payment it names may have some: one query is due. Never fails.
   * @param find reads the payment that it names, if there is one
   */
  async function makeQueryDue(
    account: ChannelAccount,
    named: string | undefined,
    find: (id: string) => Promise<Payment | null>,
    reason: string,
    log: Api['log'],
  ) {
    if (named === undefined) return;
    const key = `${account.id}/${named}`;
    const at = now().getTime();
    if (at - (lookedAt.get(key) ?? Number.NEGATIVE_INFINITY) < LOOKED_AT_EVERY_MS) return;
    lookedAt.delete(key);
    lookedAt.set(key, at);
    if (lookedAt.size > LOOKED_AT_MOST) lookedAt.delete(lookedAt.keys().next().value ?? '');
    try {
      const payment = await find(named);
      if (payment === null) {
        // It may be created at any time.
        lookedAt.delete(key);
        return;
      }
      if (payment.channelAccountId !== account.id || payment.status === 'succeeded') return;
      if (!(await takeQueryDue(db, payment.id, reason, now()))) return;
      await workflows.hint(payment, false, SIGNAL_WITHIN_MS);
    } catch (error) {
      lookedAt.delete(key);
      if (error instanceof Refusal) return;
      log.warn({ err: error }, 'no query was made due for a callback that was refused');
    }
  }

  /** Tells the workflow that waits for it. Never fails: the row is stored, and what is not delivered the sweep delivers. */
  async function deliver(stored: CallbackWithPayment, log: Api['log']) {
    const { payment } = stored;
    if (payment === null) return;
    try {
      await deliverStored(api, stored, payment, SIGNAL_WITHIN_MS);
      await markDelivered(db, stored.id, now());
    } catch (error) {
      log.warn({ err: error, callbackId: stored.id }, 'a stored callback waits for the sweep');
    }
  }

  /** @throws Refusal `too_many_requests`, for a callback that may be a verified one */
  async function findAccount(adapter: ChannelAdapter, name: AccountName, address: string) {
    try {
      return await accounts.find(name, address);
    } catch (error) {
      if (error instanceof Refusal) metrics.countCallback(adapter.declaration.name, 'unchecked');
      throw error;
    }
  }

  /** @throws Refusal when it cannot be verified or read; what has to be done about that is done. */
  async function verify(
    { adapter, name, address, log }: Receiver,
    headers: Headers,
    body: Buffer,
  ): Promise<Verified> {
    const account = (await findAccount(adapter, name, address)) ?? refuseAccount(name);
    const giveBack = checks.take(address, body.length);
    if (giveBack === undefined) {
      metrics.countCallback(adapter.declaration.name, 'unchecked');
      throw tooMany('Too much could not be verified, much of it of this address.', checks.secondsLeft);
    }
    let cause: CallbackError | undefined;
    const check = async (of: ChannelAccount): Promise<Verified | undefined> => {
      try {
        const callback = await adapter.verifyCallback({ ...of, credentials: [] }, { headers, rawBody: body });
        giveBack();
        if (callback.kind !== 'trade') throw new CallbackError('malformed', 'it tells of no trade');
        return { account: of, callback };
      } catch (error) {
        if (!(error instanceof CallbackError)) throw error;
        cause = error;
        if (error.kind === 'unverified') return undefined;
        giveBack();
        return await refuseMalformed({ adapter, account: of, log }, body, error);
      }
    };
    const verified = await check(account);
    if (verified !== undefined) return verified;

    const uncount = unverifiedCounts.take(`${account.id} ${address}`);
    const isWithin = uncount !== undefined;
    // It may have other credentials since it was read, or not be there.
    const mayRead = isWithin && accountReads.take(account.id) !== undefined;
    const current =
      (await (mayRead ? accounts.readNow(name) : accounts.readRarely(name))) ?? refuseAccount(name);
    if (!isDeepStrictEqual(current, account)) {
      const again = await check(current);
      if (again !== undefined) {
        uncount?.();
        return again;
      }
    }
    metrics.countCallback(adapter.declaration.name, 'unverified');
    const why = cause?.message ?? '';
    unverified.add(current.id, address, body, why, now());
    if (!isWithin) {
      throw tooMany(
        'Too many callbacks of this address could not be verified.',
        unverifiedCounts.secondsLeft,
      );
    }
    log.warn({ channel: adapter.declaration.name, kind: 'unverified', reason: why }, 'callback refused');
    await makeQueryDue(
      current,
      adapter.peekOutTradeNo(body),
      (id) => misses.lookUp(address, `payment/${id}`, () => lookUpPayment(api, id)),
      'A callback could not be verified: the channel is asked.',
      log,
    );
    throw new Refusal('callback_unverified', 'The signature is wrong, missing or too old.', { cause });
  }

  async function refuseMalformed(
    { adapter, account, log }: Pick<Receiver, 'adapter' | 'log'> & Pick<Verified, 'account'>,
    body: Buffer,
    error: CallbackError,
  ): Promise<never> {
    metrics.countCallback(adapter.declaration.name, error.kind);
    log.warn(
      { channel: adapter.declaration.name, kind: error.kind, reason: error.message },
      'callback refused',
    );
    const reason = 'A signed callback made no sense: the channel is asked.';
    await makeQueryDue(account, adapter.peekOutTradeNo(body), (id) => lookUpPayment(api, id), reason, log);
    throw new Refusal('callback_malformed', 'Signed, but it makes no sense.', { cause: error });
  }

  /** Stores it for the account it is verified for; for the current one, when that is not there any more. */
  async function store(receiver: Receiver, { account, callback }: Verified, headers: Headers, body: Buffer) {
    try {
      return await storeCallback(db, account.id, callback, body, now());
    } catch (error) {
      if (!isRowGone(error) && !isConstraintViolation(error)) throw error;
      const current = await accounts.readNow(receiver.name);
      if (current?.id === account.id) throw error;
      const again = await verify(receiver, headers, body);
      return await storeCallback(db, again.account.id, again.callback, body, now());
    }
  }

  async function receive(
    { request, response, body }: Exchange<null, unknown, undefined, Buffer>,
    accountId?: string,
  ) {
    const channel = String(request.params.channel);
    const name = { channel, id: accountId };
    const adapter = channels.get(channel);
    // An id that no account can have is not asked of the database.
    if (adapter === undefined || (accountId !== undefined && !/^\w{1,64}$/.test(accountId))) {
      return refuseAccount(name);
    }
    const log = request.log as Api['log'];
    const receiver = { adapter, name, address: clientAddress(request), log };
    const verified = await verify(receiver, request.headers, body);
    const stored = await store(receiver, verified, request.headers, body).catch((error: unknown) => {
      metrics.countCallback(channel, 'not_stored');
      throw error;
    });
    const repeated = stored.deliveredAt !== null;
    metrics.countCallback(
      channel,
      repeated ? 'repeated' : stored.paymentId === null ? 'unmatched' : 'stored',
    );
    if (!repeated) await deliver(stored, log);
    response.json({});
  }

  const shared = {
    method: 'post',
    tag: 'Channels and payers',
    auth: 'none',
    body: 'raw',
    answers: {
      200: { description: "Stored for good: the channel's acknowledgement.", schema: z.object({}) },
    },
    refusals: [
      'not_found',
      'callback_unverified',
      'callback_malformed',
      'payload_too_large',
      'too_many_requests',
      'too_busy',
      'database_unavailable',
    ],
  } as const;

  return [
    endpoint({
      ...shared,
      path: '/callbacks/{channel}',
      operationId: 'receiveCallback',
      summary: 'A channel calls back',
      description: "For the channel's default account.",
      params: z.object({ channel: z.string() }),
      handle: (exchange) => receive(exchange),
    }),
    endpoint({
      ...shared,
      path: '/callbacks/{channel}/{accountId}',
      operationId: 'receiveAccountCallback',
      summary: 'A channel calls back for one account',
      params: z.object({ channel: z.string(), accountId: z.string() }),
      handle: (exchange) => receive(exchange, exchange.params.accountId),
    }),
  ];
}
