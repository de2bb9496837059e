import { isMoney, recordedAnswer } from '../domain/answer.ts';
import { refusesAttempts } from '../domain/attempt.ts';
import {
  type AccountMode,
  type ChannelAdapter,
  type ChannelAnswer,
  ChannelError,
  type FoundTrade,
  methodOf,
} from '../domain/channel.ts';
import { isPaymentId } from '../domain/ids.ts';
import { amountText } from '../domain/money.ts';
import { Refusal } from '../domain/refusal.ts';
import { type Adoption, isEnded } from '../domain/states.ts';
import { matchCallbacksOf } from './callbacks.ts';
import type { LedgerClient } from './client.ts';
import { insertPayment, type NewOrder, type NewPayment } from './new-payment.ts';
import { recordAnswer } from './payments.ts';
import { unknownAccount } from './queries.ts';
import type { ChannelAccount, Payment } from './rows.ts';
import { accountOf, findReceived, tradeOf } from './trade-of-payment.ts';

/** This file checks a trade that the merchant's own code created, before nodrop adopts the trade as a payment. */

export interface WantedTrade {
  readonly channel: string;
  /** The merchant's number for the trade at the channel. */
  readonly reference: string;
  /** The name of the channel account. If it is absent, the merchant's default account at the channel is used. */
  readonly account?: string | undefined;
  /**
   * The payment method. If it is absent, nodrop uses the method that the channel reports, or else the channel's first
   * method.
   */
  readonly method?: string | undefined;
  /** Only accounts of this mode are used. */
  readonly mode: AccountMode;
}

/** Makes one call to the channel within the caller's timeout. */
type Ask<T> = (read: (signal: AbortSignal) => Promise<T>) => Promise<T>;

export interface Adoptable {
  readonly found: FoundTrade;
  readonly method: string;
}

/**
 * Reads a trade at the channel and compares the trade with the order. The function writes nothing.
 * @param order an existing order, or a new one that the request describes
 * @param ask makes the call to the channel within the caller's timeout
 * @returns the payment if this order has already adopted the trade
 * @throws Refusal `invalid_request`, `unknown_channel`, `unknown_account`, `order_not_found`, `order_already_paid`,
 *   `order_not_payable`, `adopt_unknown`, `adopt_mismatch`, `adopt_taken`, `channel_misconfigured`,
 *   `channel_unreachable`
 */
export async function findAdoptable(
  db: LedgerClient,
  adapter: ChannelAdapter | undefined,
  merchantId: string,
  order: { readonly id: string } | NewOrder,
  wanted: WantedTrade,
  now: Date,
  ask: Ask<FoundTrade>,
): Promise<{ readonly adopted: Payment } | Adoptable> {
  const names = new Set([wanted.reference]);
  try {
    return await look(db, adapter, merchantId, order, wanted, now, ask, names);
  } catch (error) {
    if (!(error instanceof Refusal)) throw error;
    // A concurrent identical request may have adopted the trade after this request looked for an adopted payment. In
    // this case the function returns that payment instead of the refusal.
    const accounts = await accountsFor(db, merchantId, wanted);
    const known = await findAdopted(db, accounts, order.id, names);
    if (known === null) throw error;
    return { adopted: known };
  }
}

/** @param names the known names of the trade. The function adds the other names that the channel has for the trade. */
async function look(
  db: LedgerClient,
  adapter: ChannelAdapter | undefined,
  merchantId: string,
  order: { readonly id: string } | NewOrder,
  wanted: WantedTrade,
  now: Date,
  ask: Ask<FoundTrade>,
  names: Set<string>,
): Promise<{ readonly adopted: Payment } | Adoptable> {
  if (adapter === undefined) throw await unknownAccount(db, merchantId, wanted, false);
  const { declaration, readTrade } = adapter;
  if (declaration.adoption === undefined || readTrade === undefined)
    throw invalid('adopt', `${wanted.channel} does not support adopting an existing trade`);
  const { pattern, rule, isGlobal } = declaration.adoption;
  if (!pattern.test(wanted.reference)) throw invalid('adopt.reference', rule);
  if (wanted.method !== undefined && methodOf(declaration, wanted.method) === undefined) {
    const names = declaration.methods.map(({ name }) => name).join(', ');
    throw invalid('method', `must be one of ${names}`);
  }
  const accounts = await accountsFor(db, merchantId, wanted);
  const known = await findAdopted(db, accounts, order.id, names);
  if (known !== null) return { adopted: known };
  const account = accounts.find((one) => isUsable(one, wanted));
  if (account === undefined) throw await unknownAccount(db, merchantId, wanted);
  await requireFree(db, account, wanted.reference, isGlobal);
  const there = await db.order.findUnique({ where: { merchantId_id: { merchantId, id: order.id } } });
  const refusal = there === null ? null : refusesAttempts(there, now);
  if (refusal !== null) throw refusal;
  const asked = 'amount' in order ? order : there;
  if (asked === null) throw new Refusal('order_not_found', `There is no order ${order.id}.`);

  const found = await ask((signal) =>
    readTrade(
      { id: account.id, merchantId, channel: wanted.channel, credentials: [] },
      wanted.reference,
      signal,
    ),
  ).catch((error: unknown) => {
    throw refusalOf(error, wanted.channel);
  });
  const { reference, terms, answer } = found;
  if (answer.state === 'unknown_trade' && !declaration.unknownTradeCanBePaid) {
    throw new Refusal(
      'adopt_unknown',
      `${wanted.channel} knows no trade ${reference} of the account ${account.name}.`,
      { errors: [{ path: 'adopt.reference', message: `${wanted.channel} knows no such trade` }] },
    );
  }
  if (found.isOurs) throw taken(reference);
  if (found.unfit !== undefined) {
    throw new Refusal('adopt_mismatch', `Trade ${reference} cannot be adopted: ${found.unfit}`, {
      errors: [{ path: 'adopt.reference', message: found.unfit }],
    });
  }
  if (reference !== wanted.reference) {
    names.add(reference);
    const canonical = await findAdopted(db, accounts, order.id, names);
    if (canonical !== null) return { adopted: canonical };
    await requireFree(db, account, reference, isGlobal);
  }
  if (answer.state === 'paid' || answer.state === 'refunded')
    await requireUnknownMoney(db, account, answer.channelPaymentId, reference);
  if (
    terms !== undefined &&
    (BigInt(asked.amount) !== BigInt(terms.amount) || asked.currency !== terms.currency)
  ) {
    const [has, wants] = [amountText(terms.amount, terms.currency), amountText(asked.amount, asked.currency)];
    throw new Refusal(
      'adopt_mismatch',
      `Trade ${reference} is for ${has}, and order ${order.id} for ${wants}.`,
      {
        errors: [{ path: 'adopt.reference', message: `the trade is for ${has}` }],
      },
    );
  }
  const method = found.method ?? wanted.method ?? declaration.methods[0].name;
  if (wanted.method !== undefined && wanted.method !== method)
    throw invalid('method', `trade ${reference} is of the method ${method}`);
  return { found, method };
}

/**
 * Queries the channel about an adopted payment that has ended. The payment's scheduled queries may also have ended, so
 * that they do not detect money that arrives later. If such money has arrived, it is recorded and then settled like any
 * late money. Otherwise the query does not change the payment.
 * @throws Refusal `channel_misconfigured`, `channel_unreachable`
 */
export async function askAgain(
  db: LedgerClient,
  adapter: ChannelAdapter | undefined,
  payment: Payment,
  ask: Ask<ChannelAnswer>,
  now: Date,
): Promise<void> {
  if (adapter === undefined || !isEnded(payment.status) || isMoney(recordedAnswer(payment))) return;
  const answer = await ask((signal) =>
    adapter.queryTrade(accountOf(payment), tradeOf(payment), signal),
  ).catch((error: unknown) => {
    throw refusalOf(error, payment.channel);
  });
  if (isMoney(answer)) await recordAnswer(db, payment.id, answer, 'query', now);
}

/** The data of a payment that adopts a trade. The data of the trade itself is not included. */
export interface Adopting extends Omit<NewPayment, 'channel' | 'method' | 'account' | 'mode' | 'adopt'> {
  /** Whether nodrop manages the trade from now on or only watches it. */
  readonly as: Adoption;
}

/**
 * Inserts a payment for a trade that `findAdoptable` has found, and records what the channel reported about the trade.
 * The caller starts the payment's workflow. If that workflow does not start or does not query the channel, the sweep
 * starts or wakes it.
 * @throws the errors of `insertPayment`, and Refusal `adopt_taken`
 */
export async function adoptTrade(
  db: LedgerClient,
  merchantId: string,
  order: { readonly id: string } | NewOrder,
  { channel, account, mode }: WantedTrade,
  { found, method }: Adoptable,
  { as, ...given }: Adopting,
  makeTokenHash: (paymentId: string) => string,
  now: Date,
): Promise<{ payment: Payment; created: boolean }> {
  const adopt = { reference: found.reference, as };
  const attempt = { ...given, channel, account, mode, method, adopt };
  const made = await insertPayment(db, merchantId, order, attempt, makeTokenHash, now);
  if (made.created) {
    await recordAnswer(db, made.payment.id, found.answer, 'query', now);
    await matchCallbacksOf(db, made.payment, now);
  }
  return made;
}

const invalid = (path: string, message: string): Refusal =>
  new Refusal('invalid_request', `${path}: ${message}.`, { errors: [{ path, message }] });

const taken = (reference: string, by?: Payment): Refusal => {
  const of = by === undefined || by.adopted === null ? 'nodrop made it' : 'another order has adopted it';
  return new Refusal('adopt_taken', `Trade ${reference} cannot be adopted: ${of}.`, {
    errors: [{ path: 'adopt.reference', message: of }],
  });
};

/** The accounts at which the requested trade may exist, including disabled accounts. */
const accountsFor = (db: LedgerClient, merchantId: string, { channel, account }: WantedTrade) =>
  db.channelAccount.findMany({
    where: { merchantId, channel, ...(account === undefined ? {} : { name: account }) },
  });

const isUsable = (one: ChannelAccount, { account, mode }: WantedTrade): boolean =>
  one.disabledAt === null && one.mode === mode && (account !== undefined || one.isMerchantDefault);

/**
 * Returns the payment with which this order has already adopted the trade. If the request names no account, the payment
 * may be at any account of the merchant at the channel.
 */
async function findAdopted(
  db: LedgerClient,
  accounts: readonly ChannelAccount[],
  orderId: string,
  names: ReadonlySet<string>,
): Promise<Payment | null> {
  const channelAccountId = { in: accounts.map(({ id }) => id) };
  return await db.payment.findFirst({
    where: { channelAccountId, reference: { in: [...names] }, orderId, adopted: { not: null } },
  });
}

/** @throws Refusal `adopt_taken` */
async function requireFree(
  db: LedgerClient,
  { id, channel }: ChannelAccount,
  reference: string,
  isGlobal: boolean | undefined,
): Promise<void> {
  // If the requested trade's number is the id of a nodrop payment, the request is refused, even if that payment's row
  // is lost. `recover --lost` restores the row later. Until then, no other payment may adopt the trade.
  if (isPaymentId(reference)) throw taken(reference);
  const accounts =
    isGlobal === true
      ? await db.channelAccount.findMany({ where: { channel }, select: { id: true } })
      : [{ id }];
  const by = await db.payment.findFirst({
    where: { channelAccountId: { in: accounts.map(({ id }) => id) }, reference },
  });
  if (by !== null) throw taken(reference, by);
}

/**
 * Refuses the trade if its money was already received by another payment. Otherwise the same money would pay a second
 * order. The lookup by number does not find that payment if the trade has two names, or if two accounts can see the
 * trade.
 * @throws Refusal `adopt_taken`
 */
async function requireUnknownMoney(
  db: LedgerClient,
  { id, channel }: ChannelAccount,
  channelPaymentId: string,
  reference: string,
): Promise<void> {
  const by =
    (await db.payment.findFirst({ where: { channelAccountId: id, channelPaymentId } })) ??
    (await findReceived(db, channel, channelPaymentId));
  if (by !== null) throw taken(reference, by);
}

/**
 * Returns the refusal that the caller gets after a failed call to the channel. After such a failure nodrop knows
 * nothing about the trade and has created nothing.
 */
function refusalOf(error: unknown, channel: string): unknown {
  if (!(error instanceof ChannelError)) return error;
  const { kind, message, retryAfterMs } = error;
  if (kind === 'misconfigured')
    return new Refusal('channel_misconfigured', `${channel} rejects our calls: ${message}`, {
      cause: error,
    });
  return new Refusal('channel_unreachable', `${channel} gave no readable answer: nothing was adopted.`, {
    cause: error,
    ...(retryAfterMs === undefined ? {} : { retryAfterSeconds: Math.ceil(retryAfterMs / 1000) }),
  });
}
