import { setTimeout as sleep } from 'node:timers/promises';
import {
  type ChannelAccount,
  type ChannelAdapter,
  type ChannelAnswer,
  type CurrencyLimits,
  type MethodDeclaration,
  type NewRefund,
  type NewTrade,
  takesCurrency,
} from '../domain/channel.ts';
import { newPaymentId } from '../domain/ids.ts';
import { amountText } from '../domain/money.ts';
import { CommandError } from './errors.ts';

/**
 * `npm run nodrop -- channels smoke CHANNEL`: tests a channel with test credentials. It creates a trade, queries it,
 * pays it, refunds a part of it and closes it.
 */

/** Interval between queries while the payer's bank has not yet accepted or rejected the payment. */
const ASK_AGAIN_MS = 1_000;
const ASKED_AT_MOST = 15;

/**
 * The command uses the first of these currencies that a payment method accepts. Most channels accept at least one of
 * these currencies.
 */
const CURRENCIES = ['EUR', 'CNY', 'USD'];
const AMOUNT = 1_000;

/**
 * Tests each payment method of the channel. The function creates a trade, queries it, pays it if the channel lets a
 * program pay, refunds a part of it, and closes it.
 * @param say called with a line for each step and its result; no line contains a secret
 * @returns whether a trade was paid and refunded with any method
 * @throws CommandError when the credentials may move real money, or the adapter violates the contract of the channel
 * port
 * @throws ChannelError when the channel does not answer
 */
export async function smokeTest(
  adapter: ChannelAdapter,
  account: ChannelAccount,
  say: (line: string) => void,
): Promise<boolean> {
  const { declaration } = adapter;
  refuseRealMoney(adapter, account);
  await adapter.checkAccount(account);
  say(`${declaration.name} accepts the credentials.`);
  let isPaid = false;
  for (const method of declaration.methods) {
    say(`By ${method.name}:`);
    if (await tryMethod(adapter, account, method, (line) => say(`  ${line}`))) isPaid = true;
  }
  return isPaid;
}

function refuseRealMoney(
  { declaration: { name, testOnly, modeOf } }: ChannelAdapter,
  account: ChannelAccount,
) {
  if (testOnly) return;
  const modes = account.credentials.map((credentials) => modeOf?.(credentials));
  if (modes.length > 0 && modes.every((mode) => mode === 'test')) return;
  throw new CommandError(
    modes.includes('live')
      ? `The credentials of ${name} are live: the smoke test would move real money. Use an account with test credentials.`
      : `The credentials of ${name} are not known to be test credentials: the smoke test could move real money.`,
  );
}

/** @returns whether the trade was paid */
async function tryMethod(
  adapter: ChannelAdapter,
  account: ChannelAccount,
  method: MethodDeclaration,
  say: (line: string) => void,
): Promise<boolean> {
  if (method.needs.length > 0) {
    say(`skipped: this method needs ${method.needs.join(' and ')} of a payer.`);
    return false;
  }
  const trade = await createTrade(adapter, account, method, say);
  expectState(await adapter.queryTrade(account, trade), ['unpaid', 'unknown_trade'], say);
  if ((await adapter.payInSandbox?.(account, trade)) !== true) {
    say('not paid: the channel offers no way for a program to pay.');
    await closeTrade(adapter, account, trade, say);
    return false;
  }
  say('paid with a test card.');
  const paid = await askUntil(
    () => adapter.queryTrade(account, trade),
    ({ state }) => state === 'paid',
  );
  expectState(paid, ['paid'], say);
  await refundPart(adapter, account, trade, say);
  say(`close: ${(await adapter.closeTrade(account, trade)).state}`);

  const other = await createTrade(adapter, account, method, say);
  await closeTrade(adapter, account, other, say);
  return true;
}

async function createTrade(
  adapter: ChannelAdapter,
  account: ChannelAccount,
  method: MethodDeclaration,
  say: (line: string) => void,
): Promise<NewTrade> {
  const [currency, amount] = price(method);
  const now = Date.now();
  const outTradeNo = newPaymentId();
  const trade: NewTrade = {
    outTradeNo,
    method: method.name,
    amount,
    currency,
    createdAt: new Date(now).toISOString(),
    expiresAt: new Date(now + Math.max(method.expiry.atLeastMs, 15 * 60_000)).toISOString(),
    reference: null,
    subject: 'nodrop smoke test',
    notifyUrl: 'https://example.com/callbacks',
    returnUrl: 'https://example.com/',
    payer: {},
  };
  const created = await adapter.createTrade(account, trade);
  if (created === 'not_renewable')
    throw new CommandError('The adapter reported a new trade as not renewable.');
  const { action, reference } = created;
  const where = action.url ?? action.qr ?? `an ${action.type} action`;
  say(`create ${outTradeNo}, ${amountText(amount, currency)}: ${reference?.id ?? 'no reference'}, ${where}`);
  return { ...trade, reference: reference ?? null };
}

function price(method: MethodDeclaration): readonly [string, number] {
  const { currencies } = method;
  const first = currencies === 'any' ? undefined : Object.keys(currencies)[0];
  const currency = CURRENCIES.find((code) => takesCurrency(method, code)) ?? first ?? 'EUR';
  const limits: CurrencyLimits = currencies === 'any' ? {} : (currencies[currency] ?? {});
  return [currency, Math.max(AMOUNT, limits.atLeast ?? 0)];
}

async function refundPart(
  adapter: ChannelAdapter,
  account: ChannelAccount,
  trade: NewTrade,
  say: (line: string) => void,
): Promise<void> {
  const refund: NewRefund = {
    outRefundNo: `${trade.outTradeNo}_r`,
    channelRefundId: null,
    attempt: 1,
    amount: trade.amount / 2,
    currency: trade.currency,
    total: trade.amount,
  };
  const answer = await adapter.refundTrade(account, trade, refund);
  say(`refund of ${amountText(refund.amount, refund.currency)}: ${answer.state}`);
  const again = await adapter.refundTrade(account, trade, refund);
  say(`the same refund again: ${again.state}`);
  const known = await askUntil(
    () => adapter.queryRefund(account, trade, refund),
    ({ state }) => state !== 'processing' && state !== 'unknown_refund',
  );
  say(`query of the refund: ${known.state}`);
  const after = await adapter.queryTrade(account, trade);
  expectState(after, ['paid'], say);
  const back =
    'refunds' in after
      ? (after.refunds ?? []).reduce((sum, { amount }) => sum + amount, 0)
      : 'refundedAmount' in after
        ? (after.refundedAmount ?? 0)
        : 0;
  if (back !== refund.amount) {
    throw new CommandError(
      `The channel lists refunds of ${back}, but ${refund.amount} was requested: check trade ${trade.outTradeNo} there.`,
    );
  }
}

async function closeTrade(
  adapter: ChannelAdapter,
  account: ChannelAccount,
  trade: NewTrade,
  say: (line: string) => void,
): Promise<void> {
  const answer = await adapter.closeTrade(account, trade);
  say(answer.state === 'not_yet' ? `close: not before ${answer.until}` : `close: ${answer.state}`);
  if (answer.state === 'closed') expectState(await adapter.queryTrade(account, trade), ['closed'], say);
}

function expectState(
  answer: ChannelAnswer,
  expected: readonly ChannelAnswer['state'][],
  say: (line: string) => void,
): void {
  say(`query: ${answer.state}`);
  if (!expected.includes(answer.state)) {
    throw new CommandError(`The trade is ${answer.state}, but should be ${expected.join(' or ')}.`);
  }
}

/** Queries the channel until the channel reports a decision, at most ASKED_AT_MOST times. @returns the last answer */
async function askUntil<T>(ask: () => Promise<T>, isDecided: (answer: T) => boolean): Promise<T> {
  let answer = await ask();
  for (let asked = 1; asked < ASKED_AT_MOST && !isDecided(answer); asked += 1) {
    await sleep(ASK_AGAIN_MS);
    answer = await ask();
  }
  return answer;
}
