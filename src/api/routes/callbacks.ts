import { isDeepStrictEqual } from 'node:util';
import type { Response } from 'express';
import { isCallbackProof } from '../../client-token.ts';
import {
  CallbackError,
  type CallbackOutcome,
  type CallbackSubject,
  type ChannelAdapter,
  type Headers,
  type VerifiedCallback,
} from '../../domain/channel.ts';
import { REFUSALS, Refusal } from '../../domain/refusal.ts';
import {
  type CallbackWithPayment,
  findNamed,
  markDelivered,
  type StorableCallback,
  storeCallback,
} from '../../ledger/callbacks.ts';
import type { OpenedAccount } from '../../ledger/channel-accounts.ts';
import { isConstraintViolation, isRowGone } from '../../ledger/client.ts';
import { recordNotice, takeQueryDue } from '../../ledger/hints.ts';
import { mayKeepNotice, storeIgnored } from '../../ledger/ignored-callbacks.ts';
import type { Payment } from '../../ledger/rows.ts';
import { forwardStoredCallback } from '../../temporal/forward-callback.ts';
import type { Api } from '../api-deps.ts';
import { type AccountName, ChannelAccounts } from '../channel-accounts.ts';
import { SIGNAL_WITHIN_MS } from '../deadlines.ts';
import { type Endpoint, type Exchange, endpoint } from '../endpoint/endpoint.ts';
import { clientAddress } from '../http/client-address.ts';
import { Counts } from '../http/counts.ts';
import { tooMany } from '../http/failed-lookups.ts';
import { toRefusal } from '../http/problems.ts';
import { z } from '../http/zod.ts';
import { findPaymentById } from '../payments/read-payment.ts';
import { UnverifiedChecks } from '../unverified-checks.ts';

/** Whom a callback is for, and who sent it. */
interface Receiver {
  readonly adapter: ChannelAdapter;
  readonly name: AccountName;
  readonly address: string;
  /** The payment whose own address it came to, which only its channel knows; null: to an address without a proof. */
  readonly proven: string | null;
  readonly log: Api['log'];
}

/** A callback and the account that it is verified for. */
interface Verified {
  readonly account: OpenedAccount;
  /** `unreadable`: it could not be verified or read, and came to the address of this payment: it has news. */
  readonly callback: VerifiedCallback | { readonly kind: 'unreadable'; readonly payment: Payment };
}

const refuseAccount = ({ channel }: AccountName): never => {
  throw new Refusal('not_found', `There is no such account at channel ${channel}.`);
};

/** How many callbacks of an account an address may send in vain in a minute: beyond it they are refused without a query. */
export const UNVERIFIED_A_MINUTE = 100;
/** How many notices a minute count of a payment whose address is proven, and of an address without that. */
export const NOTICES_A_MINUTE = 60;
/** How often a minute an account is read at once as a signature fails, over all addresses; else once in 2 s. */
const READ_A_MINUTE = 60;
/** How many notices that prove nothing count of an account in a minute, over all addresses. */
export const UNPROVEN_NOTICES_A_MINUTE = 600;
/** What proves that news come from the channel, and what is noted of them. */
const NEWS = {
  address: "The channel has news, sent to the payment's own address: it is asked.",
  signature: 'The channel has news, signed: it is asked.',
  none: 'The channel has news: it is asked.',
} as const;
/** A payment that was asked about for an unverifiable callback is not looked at for the next one in this time. */
const LOOKED_AT_EVERY_MS = 10_000;
const LOOKED_AT_MOST = 10_000;

/**
 * Where channels call back: verified in memory, stored, delivered, acknowledged. The acknowledgement depends on
 * the storing alone; what could not be delivered now, the sweep delivers (P4). A callback is verified before the
 * bound of its address refuses it: what cannot be verified is counted, and costs no query beyond the bound. Only a process
 * that is overloaded with checks in vain refuses a callback without having checked it.
 *
 * What comes to a payment's own address comes from its channel, also when it cannot be verified or read: then the channel
 * is asked, in whatever status the payment is. Such notices are bounded by their rate alone.
 */
export function callbackRoutes(api: Api): Endpoint[] {
  const { config, db, workflows, channels, metrics, failedLookups, unverified, now } = api;
  const accounts = new ChannelAccounts(db, config.secret, failedLookups, now);
  const unverifiedCounts = new Counts({ atMost: UNVERIFIED_A_MINUTE, windowMs: 60_000 }, now);
  const accountReads = new Counts({ atMost: READ_A_MINUTE, windowMs: 60_000 }, now);
  const checks = new UnverifiedChecks(now);
  const accountNotices = new Counts({ atMost: UNPROVEN_NOTICES_A_MINUTE, windowMs: 60_000 }, now);
  const notices = new Counts({ atMost: NOTICES_A_MINUTE, windowMs: 60_000 }, now);
  /** When payments were last looked at for a callback that cannot be read, in epoch ms, the oldest first. */
  const lookedAt = new Map<string, number>();

  /**
   * A callback that cannot be read proves nothing, but the payment that it names may have changed: one query is due. Never fails.
   * @param find reads the payment that it names, if there is one
   */
  async function makeQueryDue(
    account: OpenedAccount,
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
      await forwardStoredCallback(api, stored, payment, now(), SIGNAL_WITHIN_MS);
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
  async function verify(receiver: Receiver, headers: Headers, body: Buffer): Promise<Verified> {
    const { adapter, name, address, proven, log } = receiver;
    const account = (await findAccount(adapter, name, address)) ?? refuseAccount(name);
    const giveBack = proven === null ? checks.take(address, body.length) : () => {};
    if (giveBack === undefined) {
      metrics.countCallback(adapter.declaration.name, 'unchecked');
      throw tooMany('Too much could not be verified, much of it of this address.', checks.secondsLeft);
    }
    let cause: CallbackError | undefined;
    const check = async (of: OpenedAccount): Promise<Verified | undefined> => {
      try {
        const callback = await adapter.verifyCallback(of, { headers, rawBody: body });
        giveBack();
        return { account: of, callback };
      } catch (error) {
        if (!(error instanceof CallbackError)) {
          // Trouble of our own says nothing of the sender, who is to send it again.
          giveBack();
          throw error;
        }
        cause = error;
        if (error.kind === 'unverified') return undefined;
        giveBack();
        return (
          (await readAsNews(receiver, of, error)) ??
          (await refuseMalformed({ adapter, account: of, log }, body, error))
        );
      }
    };
    const verified = await check(account);
    if (verified !== undefined) return verified;

    const uncount = proven === null ? unverifiedCounts.take(`${account.id} ${address}`) : () => {};
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
    const why = cause?.message ?? '';
    unverified.add(current.id, address, body, why, now());
    const news = await readAsNews(receiver, current, cause);
    if (news !== undefined) return news;
    metrics.countCallback(adapter.declaration.name, 'unverified');
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
      (id) => failedLookups.lookUp(address, `payment/${id}`, () => findPaymentById(api, id)),
      'A callback could not be verified: the channel is asked.',
      log,
    );
    throw new Refusal('callback_unverified', 'The signature is wrong, missing or too old.', { cause });
  }

  /** What cannot be verified or read, at a payment's own address; undefined: at another, or that payment is not there. */
  async function readAsNews(
    { adapter, proven, log }: Receiver,
    account: OpenedAccount,
    cause: CallbackError | undefined,
  ): Promise<Verified | undefined> {
    if (proven === null) return undefined;
    countNotice(proven);
    const payment = await db.payment.findFirst({ where: { id: proven, channelAccountId: account.id } });
    if (payment === null) return undefined;
    const { name: channel } = adapter.declaration;
    log.warn({ channel, kind: cause?.kind, reason: cause?.message }, 'a callback is taken as a notice');
    return { account, callback: { kind: 'unreadable', payment } };
  }

  /**
   * @param accountId counts it for the account as well
   * @throws Refusal when the channel, or whoever knows the address, sends too many.
   */
  function countNotice(key: string, accountId?: string): void {
    const isWithin = notices.take(key) !== undefined;
    if (!isWithin || (accountId !== undefined && accountNotices.take(accountId) === undefined))
      throw tooMany('Too many notices in vain, or of one payment.', notices.secondsLeft);
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
    await makeQueryDue(account, adapter.peekOutTradeNo(body), (id) => findPaymentById(api, id), reason, log);
    throw new Refusal('callback_malformed', 'Signed, but it makes no sense.', { cause: error });
  }

  /** Stores it for the account it is verified for; for the current one, when that is not there any more. */
  async function store(
    receiver: Receiver,
    { account, callback }: Verified & { callback: StorableCallback },
    headers: Headers,
    body: Buffer,
  ) {
    try {
      return await storeCallback(db, account.id, callback, body, now());
    } catch (error) {
      if (!isRowGone(error) && !isConstraintViolation(error)) throw error;
      const current = await accounts.readNow(receiver.name);
      if (current?.id === account.id) throw error;
      const again = await verify(receiver, headers, body);
      if (again.callback.kind !== callback.kind) throw error;
      return await storeCallback(db, again.account.id, callback, body, now());
    }
  }

  /**
   * The channel is asked about the payment; that it is to be is on record first.
   * @returns false when word that proves nothing makes no more queries for the payment: nothing is on record then
   */
  async function takeNews(payment: Payment, proof: keyof typeof NEWS, log: Api['log']): Promise<boolean> {
    const effect = await recordNotice(db, payment.id, proof !== 'none', NEWS[proof], now());
    if (effect !== 'due') return effect === 'waits';
    await workflows.notice(payment, SIGNAL_WITHIN_MS).catch((error: unknown) => {
      log.warn({ err: error, paymentId: payment.id }, 'news of a payment wait for the sweep');
    });
    return true;
  }

  /** A notice of a payment that is known here. @returns null for any other: it is stored as callbacks are */
  async function takeNotice(
    { proven, address, log }: Receiver,
    account: OpenedAccount,
    { notificationId, about, isProven }: Extract<VerifiedCallback, { kind: 'notice' }>,
    body: Buffer,
  ): Promise<'noticed' | 'ignored' | null> {
    if (!isProven)
      countNotice(proven ?? `${account.id} ${address}`, proven === null ? account.id : undefined);
    const ignored = async (reason: string) => {
      await storeIgnored(db, account.id, { notificationId, reason }, body, now());
      return 'ignored' as const;
    };
    const own = proven === null ? null : await findNamed(db, account.id, { outTradeNo: proven });
    const named = own ?? (await findNamed(db, account.id, about));
    if (named === null) {
      if (await mayKeepNotice(db, account.id, now())) return null;
      // The channel would send it again for days, and the queries of a payment that is made meanwhile need no notice.
      if (isProven) return await ignored('Of a trade that is not known here, after many of that kind.');
      throw tooMany('Too many notices of trades that are not known here.', notices.secondsLeft);
    }
    const payment = await db.payment.findUniqueOrThrow({ where: { id: named.id } });
    const proof = own !== null ? 'address' : isProven ? 'signature' : 'none';
    if (await takeNews(payment, proof, log)) return 'noticed';
    return await ignored('The payment has been asked about for as many notices as count that prove nothing.');
  }

  /** What is nothing of ours by its number tells of an adopted trade. @returns false when it tells of none */
  async function takeAdopted(account: OpenedAccount, about: CallbackSubject, log: Api['log']) {
    const named = await findNamed(db, account.id, about);
    if (named === null) return false;
    const payment = await db.payment.findUniqueOrThrow({ where: { id: named.id } });
    return payment.adopted !== null && (await takeNews(payment, 'signature', log));
  }

  /** Does what a callback brings about. @returns what became of it, once that is stored for good */
  async function take(receiver: Receiver, verified: Verified, headers: Headers, body: Buffer) {
    const { account, callback } = verified;
    if (callback.kind === 'unreadable') {
      await takeNews(callback.payment, 'address', receiver.log);
      return 'noticed';
    }
    if (callback.kind === 'ignored') {
      if (callback.about !== undefined && (await takeAdopted(account, callback.about, receiver.log)))
        return 'noticed';
      await storeIgnored(db, account.id, callback, body, now());
      return 'ignored';
    }
    if (callback.kind === 'notice') {
      const taken = await takeNotice(receiver, account, callback, body);
      if (taken !== null) return taken;
    }
    const stored = await store(receiver, { account, callback }, headers, body);
    const repeated = stored.deliveredAt !== null;
    if (!repeated) await deliver(stored, receiver.log);
    return repeated ? 'repeated' : stored.paymentId === null ? 'unmatched' : 'stored';
  }

  /** As the channel wants it. */
  function acknowledge(response: Response, adapter: ChannelAdapter, outcome: CallbackOutcome): void {
    const own = adapter.acknowledge?.(outcome);
    if (own === undefined) response.json({});
    else response.status(own.status).type(own.type).send(own.body);
  }

  /** What is thrown for a callback that was not taken, by trouble of ours: the channel is to send it again. */
  function notTaken(channel: string, error: unknown): unknown {
    metrics.countCallback(channel, 'not_stored');
    if (error instanceof Refusal || REFUSALS[toRefusal(error).code].status === 503) return error;
    const said = 'This is trouble of ours, which the log has under the request id: send it again.';
    return new Refusal('callback_not_stored', said, { cause: error });
  }

  async function receive(
    { request, response, body }: Exchange<null, unknown, undefined, Buffer>,
    accountId?: string,
    own?: { readonly paymentId: string; readonly proof: string },
  ) {
    const channel = String(request.params.channel);
    const name = { channel, id: accountId };
    const adapter = channels.get(channel);
    // An id that no account can have is not asked of the database.
    if (adapter === undefined || (accountId !== undefined && !/^\w{1,64}$/.test(accountId))) {
      return refuseAccount(name);
    }
    const log = request.log as Api['log'];
    // Of another channel a payer may have read the address.
    const isProven =
      own !== undefined &&
      adapter.declaration.takesCallbackAddress &&
      isCallbackProof(config.secret, accountId ?? '', own.paymentId, own.proof);
    const proven = isProven ? own.paymentId : null;
    const receiver = { adapter, name, address: clientAddress(request), proven, log };
    const verified = await verify(receiver, request.headers, body).catch((error: unknown) => {
      if (!(error instanceof Refusal)) throw notTaken(channel, error);
      const isRefused = error.code === 'callback_unverified' || error.code === 'callback_malformed';
      if (!isRefused || adapter.acknowledge === undefined) throw error;
      return null;
    });
    if (verified === null) return acknowledge(response, adapter, 'refused');
    const result = await take(receiver, verified, request.headers, body).catch((error: unknown) => {
      throw notTaken(channel, error);
    });
    metrics.countCallback(channel, result);
    const isUnreadable = verified.callback.kind === 'unreadable';
    acknowledge(response, adapter, isUnreadable ? 'unreadable' : result === 'ignored' ? 'ignored' : 'stored');
  }

  const shared = {
    method: 'post',
    tag: 'Channels and payers',
    auth: 'none',
    body: 'raw',
    answers: {
      200: {
        description:
          'Stored for good: the acknowledgement that the channel wants, which may have another status, type and body.',
        schema: z.object({}),
      },
    },
    refusals: [
      'not_found',
      'callback_unverified',
      'callback_malformed',
      'payload_too_large',
      'too_many_requests',
      'too_busy',
      'database_unavailable',
      'callback_not_stored',
    ],
  } as const;

  return [
    endpoint({
      ...shared,
      path: '/callbacks/{channel}',
      operationId: 'receiveCallback',
      summary: 'A channel calls back',
      description:
        "For the account that owns the channel's address, as the simulator's first does. Accounts that are added are called " +
        'at addresses with their ids; where no account owns this one it is 404.',
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
    endpoint({
      ...shared,
      path: '/callbacks/{channel}/{accountId}/{paymentId}/{proof}',
      operationId: 'receivePaymentCallback',
      summary: "A channel calls back at a payment's own address",
      description:
        'Given to channels that take an address with each trade and keep it to themselves. What cannot be verified or read has the channel asked, ' +
        'and is acknowledged or refused as the channel wants it; with a wrong `proof`, or of another channel, it is a callback for the account.',
      params: z.object({
        channel: z.string(),
        accountId: z.string(),
        paymentId: z.string(),
        proof: z.string(),
      }),
      handle: (exchange) => receive(exchange, exchange.params.accountId, exchange.params),
    }),
  ];
}
