import { amountText } from '../domain/money.ts';
import type { Accounts, Found, OffenceKind, Scene, SceneName, Total } from './accounts.ts';
import { CALLBACK_DELAY_MS, type Killed, title } from './trouble.ts';

export interface Report {
  readonly accounts: Accounts;
  /**
   * The reason why callbacks never arrived at nodrop. Either the simulator did not send them, or the proxy lost the
   * callbacks of the doubles.
   */
  readonly missing: 'never sent' | 'lost';
  /** The scenes that the planned payers cause, for example that an order is paid twice. */
  readonly scenes: ReadonlySet<SceneName>;
  /** The results of the shop and its payers. */
  readonly shop: {
    readonly bought: number;
    /** For each payer who pressed the pay button twice: the two payment ids that the API returned. */
    readonly doublePresses: readonly (readonly [string, string])[];
    readonly tooLate: number;
    readonly hints: number;
    readonly failures: readonly string[];
  };
  readonly forged: { readonly refused: number; readonly accepted: readonly string[] };
  readonly killed: readonly Killed[];
  /** Duration of the run, from the first payer to the last order. */
  readonly seconds: number;
}

/**
 * True when all money in the wallet is accounted for. Each received amount must have paid exactly one order or have
 * been given back. No order may be paid without money.
 */
export function isClean(report: Report): boolean {
  const { accounts, shop, forged } = report;
  return (
    accounts.wallet.count > 0 &&
    accounts.offences.length === 0 &&
    [...accounts.difference.values()].every((sum) => sum === 0) &&
    notSeen(report).length === 0 &&
    forged.accepted.length === 0 &&
    shop.doublePresses.every(([first, second]) => first === second) &&
    shop.failures.length === 0
  );
}

const notSeen = ({ accounts, scenes }: Report): readonly SceneName[] =>
  [...scenes].filter((name) => accounts.scenes[name].count === 0);

const WIDTH = 92;
const RULE = '─'.repeat(WIDTH);

/** The closing table, at most 92 columns wide. */
export function closingTable(report: Report): string {
  const { accounts, shop, forged, killed, seconds } = report;
  const offences = (kind: OffenceKind) => accounts.offences.filter((offence) => offence.kind === kind).length;
  const unproven = offences('unproven');
  return [
    RULE,
    ` nodrop demo: ${shop.bought} orders in ${Math.round(seconds)} s`,
    RULE,
    money('paid in the wallet', accounts.wallet),
    money('paid in the orders', accounts.orders),
    ...refundRows(accounts.refunds),
    ...(accounts.attention.count > 0 ? [money('waiting for an operator', accounts.attention)] : []),
    differenceRow(accounts.difference),
    RULE,
    mustBeZero('dropped: in no order, not given back', offences('dropped')),
    mustBeZero('orders paid without money', offences('unpaid')),
    mustBeZero('orders paid by two payments', offences('twice')),
    mustBeZero('amounts or currencies that differ', offences('different')),
    mustBeZero('given back without a reason', offences('unexplained')),
    mustBeZero('payments that need an operator', offences('attention')),
    ...(unproven > 0 ? [mustBeZero('not as payers saw it in the wallet', unproven)] : []),
    ...(shop.failures.length > 0
      ? [mustBeZero('payers that the shop could not serve', shop.failures.length)]
      : []),
    RULE,
    ...detectedBy(report),
    RULE,
    ...SCENES.filter(([name]) => report.scenes.has(name)).map(([name, label, what]) =>
      line(label, sceneLine(accounts.scenes[name], what)),
    ),
    line('forged callbacks', forgedLine(forged)),
    line('pressed pay twice', doubleLine(shop.doublePresses, offences('doubled'))),
    line('came back from the wallet', `${shop.hints} payers; each return is a hint to query at once`),
    line('not paid in the wallet', notPaidLine(accounts, shop.tooLate)),
    ...killed.map((process) => line(`killed with -9`, killedLine(process))),
    RULE,
  ].join('\n');
}

/** Lists the payments and orders that made the run fail, with links to their workflows. Empty after a clean run. */
export function offendersList(report: Report): string {
  const { accounts, forged, shop } = report;
  const lines = accounts.offences.map(({ kind, orderId, paymentId, detail, temporalUrl }) =>
    [
      `${kind.toUpperCase()}  order ${orderId ?? 'unknown'}  payment ${paymentId ?? 'unknown'}`,
      detail,
      ...(temporalUrl === null ? [] : [temporalUrl]),
    ].join('\n    '),
  );
  for (const [currency, sum] of accounts.difference)
    if (sum !== 0) lines.push(`UNACCOUNTED  ${signed(sum, currency)} of the wallet's money`);
  for (const name of notSeen(report)) lines.push(`NOT SEEN  ${name}: the run proves nothing about it`);
  for (const id of forged.accepted)
    lines.push(`FORGED  a forged callback for payment ${id} was acknowledged`);
  for (const [first, second] of shop.doublePresses)
    if (first !== second) lines.push(`DOUBLED  one order, two payments: ${first} and ${second}`);
  for (const failure of shop.failures) lines.push(`NOT SERVED  ${failure}`);
  if (accounts.wallet.count === 0)
    lines.push('NOTHING PAID  the wallet has no payment: the run proves nothing');
  return lines.join('\n');
}

const SCENES: readonly (readonly [name: SceneName, label: string, what: string])[] = [
  ['paidTwice', 'paid in two wallets', 'orders; the second payment'],
  ['paidLate', 'paid after the payment was closed', 'payments, each applied to its order'],
  ['cancelled', 'paid after the order was cancelled', 'payments; all the money'],
];

const LABEL = 37;

function line(label: string, text: string): string {
  return ` ${label.padEnd(LABEL)}${text}`;
}

function money(label: string, { count, sums }: Total): string {
  return line(label, `${String(count).padStart(5)}   ${amounts(sums)}`);
}

const amounts = (sums: ReadonlyMap<string, number>) =>
  [...sums]
    .sort()
    .map(([currency, sum]) => signed(sum, currency))
    .join(' + ');

/** Formats minor units as `CNY 1,234.50`; a difference may be negative. */
const signed = (sum: number, currency: string) =>
  sum < 0 ? amountText(-sum, currency).replace(' ', ' -') : amountText(sum, currency);

const REASONS: Readonly<Record<string, string>> = {
  duplicate_payment: 'given back: the order was paid twice',
  late_payment: 'given back: it was paid too late',
};

/** Makes one row for each refund reason that the demo expects, and one for each unexpected reason that occurred. */
function refundRows(refunds: Accounts['refunds']): string[] {
  const reasons = new Set([...Object.keys(REASONS), ...refunds.keys()]);
  return [...reasons].map((reason) =>
    money(REASONS[reason] ?? `given back: ${reason}`, refunds.get(reason) ?? { count: 0, sums: new Map() }),
  );
}

/** Shows the money that the rows above this row do not account for. */
function differenceRow(difference: Accounts['difference']): string {
  const isNothing = [...difference.values()].every((sum) => sum === 0);
  const verdict = isNothing ? 'as it must be' : '!!! must be 0';
  return line('not accounted for', `        ${amounts(difference)}   ${verdict}`);
}

function mustBeZero(label: string, count: number): string {
  return line(label, `${String(count).padStart(5)}   ${count === 0 ? 'as it must be' : '!!! must be 0'}`);
}

const SOURCES: readonly (readonly [settledBy: string, label: string])[] = [
  ['callback', 'the callback'],
  ['query', 'a query on schedule'],
  ['hint', 'a query after a hint'],
  ['close', 'the query before closing'],
];

function detectedBy({ accounts: { found }, missing }: Report): string[] {
  const known = SOURCES.map(([settledBy]) => settledBy);
  const others = [...new Set(found.map(({ settledBy }) => settledBy))].filter((by) => !known.includes(by));
  const recovered = found.filter(({ settledBy }) => settledBy !== 'callback');
  const row = (label: string, rows: readonly Found[]) => {
    const seconds = rows.map((one) => one.seconds).sort((a, b) => a - b);
    const lost = rows.filter(({ callbackLost }) => callbackLost).length;
    const times = [percentile(seconds, 0.5), percentile(seconds, 0.95), percentile(seconds, 1)];
    return line(label, columns([rows.length, lost, ...times]));
  };
  return [
    line('', `${'callback'.padStart(21)}${'seconds, paid to settled'.padStart(28)}`),
    line('paid detected by', columns(['payments', missing, 'median', 'p95', 'max'])),
    ...[...SOURCES, ...others.map((by) => [by, by] as const)].map(([settledBy, label]) =>
      row(
        label,
        found.filter((one) => one.settledBy === settledBy),
      ),
    ),
    row('recovered without the callback', recovered),
    ` A callback is sent ${CALLBACK_DELAY_MS / 1000} s after the payment; a query may be faster. Some callbacks are refused.`,
  ];
}

const columns = (cells: readonly (number | string)[]) =>
  cells.map((cell, index) => String(cell).padStart([8, 13, 10, 9, 9][index] ?? 9)).join('');

/** The nearest-rank percentile of sorted values, with one decimal. */
function percentile(sorted: readonly number[], rank: number): string {
  return sorted[Math.max(0, Math.ceil(sorted.length * rank) - 1)]?.toFixed(1) ?? '-';
}

function sceneLine({ count, backWithin }: Scene, what: string): string {
  if (count === 0) return '!!! DID NOT HAPPEN';
  const back = backWithin === null ? '' : ` given back within ${backWithin.toFixed(1)} s`;
  return `${count} ${what}${back}`;
}

function forgedLine({ refused, accepted }: Report['forged']): string {
  const outcome = accepted.length === 0 ? 'all refused' : `!!! ${accepted.length} ACCEPTED`;
  return `${refused + accepted.length} sent for unpaid orders, ${outcome}`;
}

function doubleLine(presses: Report['shop']['doublePresses'], doubled: number): string {
  const single = presses.filter(([first, second]) => first === second).length;
  const outcome =
    single === presses.length && doubled === 0
      ? 'one payment each'
      : `!!! ${presses.length - single + doubled} DOUBLED`;
  return `${presses.length} payers, ${outcome}`;
}

function notPaidLine({ unpaid, live }: Accounts, tooLate: number): string {
  const parts = [...unpaid].sort().map(([status, count]) => `${count} ${status}`);
  const late = tooLate === 0 ? '' : `; ${tooLate} came too late`;
  return `${parts.join(', ') || 'none'}${live === 0 ? '' : ' (not ended yet)'}${late}`;
}

function killedLine({ name, pid, afterMs, backAfterMs }: Killed): string {
  const back =
    backAfterMs === undefined
      ? 'never came back'
      : `at work again ${(backAfterMs / 1000).toFixed(1)} s later`;
  return `${title(name)} (process ${pid}) at ${Math.round(afterMs / 1000)} s, ${back}`;
}
