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

/** The account that a callback names, and the address of the callback's sender. */
interface Receiver {
  readonly adapter: ChannelAdapter;
  readonly name: AccountName;
  readonly address: string;
  /**
   * The payment's id, if the callback arrived at the payment's own callback URL. Only the channel knows that
   * URL. Null if the URL contains no valid proof.
   */
  readonly proven: string | null;
  readonly log: Api['log'];
}

/** A callback, and the account whose credentials verified it. */
interface Verified {
  readonly account: OpenedAccount;
  /**
   * `unreadable` means that the callback arrived at the payment's own URL, but could not be verified or read. nodrop
   * handles such a callback as a notice.
   */
  readonly callback: VerifiedCallback | { readonly kind: 'unreadable'; readonly payment: Payment };
}

const refuseAccount = ({ channel }: AccountName): never => {
  throw new Refusal('not_found', `There is no such account at channel ${channel}.`);
};

/**
 * Maximum number of unverifiable callbacks per minute from one sender address to one account. Further unverifiable
 * callbacks are refused, and nodrop does not query their payments.
 */
export const UNVERIFIED_A_MINUTE = 100;
/**
 * Maximum number of notices per minute. Notices to a payment's own URL count against the limit of that payment. Other
 * unproven notices count against the limit of the sender address and the account.
 */
export const NOTICES_A_MINUTE = 60;
/**
 * After a wrong signature, the process reads the account again, at most this number of times per minute. Beyond that
 * number, it reads the account at most once in 2 s.
 */
const READ_A_MINUTE = 60;
/** Maximum number of unproven notices per account and minute, from all sender addresses. */
export const UNPROVEN_NOTICES_A_MINUTE = 600;
/** The ways to prove that the channel sent a notice, and the timeline entry for each way. */
const NOTICES = {
  address: "The channel sent a notice to the payment's own URL: nodrop queries the channel.",
  signature: 'The channel sent a signed notice: nodrop queries the channel.',
  none: 'The channel sent a notice: nodrop queries the channel.',
} as const;
/**
 * Minimum time in ms between two queries that nodrop makes for one payment because of unverifiable or unreadable
 * callbacks.
 */
const QUERY_DUE_EVERY_MS = 10_000;
const QUERIES_DUE_KEPT = 10_000;

/**
 * The routes to which channels send callbacks. nodrop verifies a callback in memory, stores it, forwards it to its
 * workflow and acknowledges it. The channel gets the acknowledgement as soon as the callback is stored. If nodrop
 * cannot forward the callback now, the sweep forwards it (P4). A sender's limit counts only unverifiable callbacks.
 * Above the limit, nodrop still accepts valid callbacks, and no longer queries payments because of unverifiable
 * callbacks. While a process is overloaded with callbacks that fail the check, it may refuse callbacks without checking
 * them.
 *
 * A callback to a payment's own URL comes from the channel, even if the callback cannot be verified or read. So nodrop
 * queries the channel, whatever the status of the payment. Only the rate of such callbacks is limited.
 */
export function callbackRoutes(api: Api): Endpoint[] {
  const { config, db, workflows, channels, metrics, failedLookups, unverified, now } = api;
  const accounts = new ChannelAccounts(db, config.secret, failedLookups, now);
  const unverifiedCounts = new Counts({ atMost: UNVERIFIED_A_MINUTE, windowMs: 60_000 }, now);
  const accountReads = new Counts({ atMost: READ_A_MINUTE, windowMs: 60_000 }, now);
  const checks = new UnverifiedChecks(now);
  const accountNotices = new Counts({ atMost: UNPROVEN_NOTICES_A_MINUTE, windowMs: 60_000 }, now);
  const notices = new Counts({ atMost: NOTICES_A_MINUTE, windowMs: 60_000 }, now);
  /**
   * For each payment, the time of the last query that an unverifiable or unreadable callback caused, in epoch ms. The
   * oldest entry comes first.
   */
  const queryDueAt = new Map<string, number>();

  /**
   * Requests one query of the payment that a refused callback names. The callback does not prove a change, but the
   * payment may have changed. The function never throws.
   * @param find reads the named payment; null if it does not exist
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
    if (at - (queryDueAt.get(key) ?? Number.NEGATIVE_INFINITY) < QUERY_DUE_EVERY_MS) return;
    queryDueAt.delete(key);
    queryDueAt.set(key, at);
    if (queryDueAt.size > QUERIES_DUE_KEPT) queryDueAt.delete(queryDueAt.keys().next().value ?? '');
    try {
      const payment = await find(named);
      if (payment === null) {
        // The payment may be created soon, so the next callback must look for the payment again.
        queryDueAt.delete(key);
        return;
      }
      if (payment.channelAccountId !== account.id || payment.status === 'succeeded') return;
      if (!(await takeQueryDue(db, payment.id, reason, now()))) return;
      await workflows.hint(payment, false, SIGNAL_WITHIN_MS);
    } catch (error) {
      queryDueAt.delete(key);
      if (error instanceof Refusal) return;
      log.warn({ err: error }, 'a refused callback could not make a query due');
    }
  }

  /**
   * Forwards a stored callback to its workflow. If the workflow cannot be reached, the sweep forwards the callback
   * later. The function never throws.
   */
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

  /** @throws Refusal `too_many_requests`. The refused callback has not been verified, so it may be a valid callback. */
  async function findAccount(adapter: ChannelAdapter, name: AccountName, address: string) {
    try {
      return await accounts.find(name, address);
    } catch (error) {
      if (error instanceof Refusal) metrics.countCallback(adapter.declaration.name, 'unchecked');
      throw error;
    }
  }

  /**
   * Verifies and reads a callback. A callback that fails is counted and logged, and may cause a query.
   * @throws Refusal if the callback cannot be verified or read
   */
  async function verify(receiver: Receiver, headers: Headers, body: Buffer): Promise<Verified> {
    const { adapter, name, address, proven, log } = receiver;
    const account = (await findAccount(adapter, name, address)) ?? refuseAccount(name);
    const giveBack = proven === null ? checks.take(address, body.length) : () => {};
    if (giveBack === undefined) {
      metrics.countCallback(adapter.declaration.name, 'unchecked');
      throw tooMany(
        'Too many callbacks could not be verified, many of them from this address.',
        checks.secondsLeft,
      );
    }
    let cause: CallbackError | undefined;
    const check = async (of: OpenedAccount): Promise<Verified | undefined> => {
      try {
        const callback = await adapter.verifyCallback(of, { headers, rawBody: body });
        giveBack();
        return { account: of, callback };
      } catch (error) {
        if (!(error instanceof CallbackError)) {
          // The sender did not cause this internal error. So the callback does not count against the sender's limit,
          // and the sender should send it again.
          giveBack();
          throw error;
        }
        cause = error;
        if (error.kind === 'unverified') return undefined;
        giveBack();
        return (
          (await readAsNotice(receiver, of, error)) ??
          (await refuseMalformed({ adapter, account: of, log }, body, error))
        );
      }
    };
    const verified = await check(account);
    if (verified !== undefined) return verified;

    const uncount = proven === null ? unverifiedCounts.take(`${account.id} ${address}`) : () => {};
    const isWithin = uncount !== undefined;
    // The account may have got new credentials, or may have been removed, since the process last read it.
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
    const notice = await readAsNotice(receiver, current, cause);
    if (notice !== undefined) return notice;
    metrics.countCallback(adapter.declaration.name, 'unverified');
    if (!isWithin) {
      throw tooMany(
        'Too many callbacks from this address could not be verified.',
        unverifiedCounts.secondsLeft,
      );
    }
    log.warn({ channel: adapter.declaration.name, kind: 'unverified', reason: why }, 'callback refused');
    await makeQueryDue(
      current,
      adapter.peekOutTradeNo(body),
      (id) => failedLookups.lookUp(address, `payment/${id}`, () => findPaymentById(api, id)),
      'A callback could not be verified: nodrop queries the channel.',
      log,
    );
    throw new Refusal('callback_unverified', 'The signature is wrong, missing or too old.', { cause });
  }

  /**
   * Reads a callback to a payment's own URL as a notice, if the callback cannot be verified or read. Returns undefined
   * if the callback was sent to another URL, or if the payment does not exist.
   */
  async function readAsNotice(
    { adapter, proven, log }: Receiver,
    account: OpenedAccount,
    cause: CallbackError | undefined,
  ): Promise<Verified | undefined> {
    if (proven === null) return undefined;
    countNotice(proven);
    const payment = await db.payment.findFirst({ where: { id: proven, channelAccountId: account.id } });
    if (payment === null) return undefined;
    const { name: channel } = adapter.declaration;
    log.warn(
      { channel, kind: cause?.kind, reason: cause?.message },
      'an unreadable callback counts as a notice',
    );
    return { account, callback: { kind: 'unreadable', payment } };
  }

  /**
   * Counts a notice against its limits.
   * @param accountId if given, the notice also counts against the limit of this account
   * @throws Refusal if a limit is reached.
   */
  function countNotice(key: string, accountId?: string): void {
    const isWithin = notices.take(key) !== undefined;
    if (!isWithin || (accountId !== undefined && accountNotices.take(accountId) === undefined))
      throw tooMany('Too many unproven notices, or too many for one payment.', notices.secondsLeft);
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
    const reason = 'A signed callback was malformed: nodrop queries the channel.';
    await makeQueryDue(account, adapter.peekOutTradeNo(body), (id) => findPaymentById(api, id), reason, log);
    throw new Refusal('callback_malformed', 'The callback is signed, but its content is malformed.', {
      cause: error,
    });
  }

  /**
   * Stores a callback for the account whose credentials verified it. If that account no longer exists, nodrop verifies
   * the callback again and stores it for the account that now has the same name.
   */
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
   * Records a notice, and then requests one query of the payment. The notice is recorded first, so that it is not lost
   * if the process dies.
   * @returns false if unproven notices have already caused the maximum number of queries of the payment. In that case,
   * the notice is not recorded
   */
  async function acceptNotice(
    payment: Payment,
    proof: keyof typeof NOTICES,
    log: Api['log'],
  ): Promise<boolean> {
    const effect = await recordNotice(db, payment.id, proof !== 'none', NOTICES[proof], now());
    if (effect !== 'due') return effect === 'waits';
    await workflows.notice(payment, SIGNAL_WITHIN_MS).catch((error: unknown) => {
      log.warn({ err: error, paymentId: payment.id }, 'a recorded notice waits for the sweep');
    });
    return true;
  }

  /**
   * Handles a notice for a payment in the ledger.
   * @returns null if no payment matches. The caller then stores the notice in the same way as a callback.
   */
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
      // Without an acknowledgement, the channel would resend the notice for days. It is safe to ignore the notice: if
      // its payment is created later, nodrop queries that payment on schedule.
      if (isProven) return await ignored('For an unknown trade, after too many notices for unknown trades.');
      throw tooMany('Too many notices for unknown trades.', notices.secondsLeft);
    }
    const payment = await db.payment.findUniqueOrThrow({ where: { id: named.id } });
    const proof = own !== null ? 'address' : isProven ? 'signature' : 'none';
    if (await acceptNotice(payment, proof, log)) return 'noticed';
    return await ignored('The payment has had the maximum number of queries for unproven notices.');
  }

  /**
   * Handles a callback whose trade number does not come from nodrop. The callback may report an adopted trade.
   * @returns false if the callback does not report an adopted trade
   */
  async function takeAdopted(account: OpenedAccount, about: CallbackSubject, log: Api['log']) {
    const named = await findNamed(db, account.id, about);
    if (named === null) return false;
    const payment = await db.payment.findUniqueOrThrow({ where: { id: named.id } });
    return payment.adopted !== null && (await acceptNotice(payment, 'signature', log));
  }

  /**
   * Handles a verified callback.
   * @returns the outcome for the metrics. When the function returns, all data that had to be stored is durable.
   */
  async function take(receiver: Receiver, verified: Verified, headers: Headers, body: Buffer) {
    const { account, callback } = verified;
    if (callback.kind === 'unreadable') {
      await acceptNotice(callback.payment, 'address', receiver.log);
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

  /** Sends the acknowledgement in the form that the channel expects. */
  function acknowledge(response: Response, adapter: ChannelAdapter, outcome: CallbackOutcome): void {
    const own = adapter.acknowledge?.(outcome);
    if (own === undefined) response.json({});
    else response.status(own.status).type(own.type).send(own.body);
  }

  /**
   * Creates the refusal of a callback that could not be stored because of an internal error. After a refusal, the
   * channel sends the callback again.
   */
  function notTaken(channel: string, error: unknown): unknown {
    metrics.countCallback(channel, 'not_stored');
    if (error instanceof Refusal || REFUSALS[toRefusal(error).code].status === 503) return error;
    const detail = 'Internal error, logged under the request id: send the callback again.';
    return new Refusal('callback_not_stored', detail, { cause: error });
  }

  async function receive(
    { request, response, body }: Exchange<null, unknown, undefined, Buffer>,
    accountId?: string,
    own?: { readonly paymentId: string; readonly proof: string },
  ) {
    const channel = String(request.params.channel);
    const name = { channel, id: accountId };
    const adapter = channels.get(channel);
    // No account can have this id, so the callback is refused without a database query.
    if (adapter === undefined || (accountId !== undefined && !/^\w{1,64}$/.test(accountId))) {
      return refuseAccount(name);
    }
    const log = request.log as Api['log'];
    // The proof in the URL is used only for channels that keep the URL secret. Some channels show the URL to the payer.
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
          'Stored durably. The answer is the acknowledgement that the channel expects, which may have another status, type and body.',
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
      summary: 'Receive a callback of a channel',
      description:
        "For the account that owns the channel's URL, such as the simulator's first account. Accounts that are added later get " +
        'URLs with their ids. If no account owns this URL, the answer is 404.',
      params: z.object({ channel: z.string() }),
      handle: (exchange) => receive(exchange),
    }),
    endpoint({
      ...shared,
      path: '/callbacks/{channel}/{accountId}',
      operationId: 'receiveAccountCallback',
      summary: 'Receive a callback for one account',
      params: z.object({ channel: z.string(), accountId: z.string() }),
      handle: (exchange) => receive(exchange, exchange.params.accountId),
    }),
    endpoint({
      ...shared,
      path: '/callbacks/{channel}/{accountId}/{paymentId}/{proof}',
      operationId: 'receivePaymentCallback',
      summary: "Receive a callback at a payment's own URL",
      description:
        'Only for channels that accept a callback URL with each trade and keep it secret. A callback that cannot be verified or read makes nodrop query the channel, ' +
        'and is acknowledged or refused as the channel expects. With a wrong `proof`, or for any other channel, the request counts as a callback for the account.',
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
