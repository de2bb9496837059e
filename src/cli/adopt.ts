import { setTimeout as sleep } from 'node:timers/promises';
import { CsvError, parse } from 'csv-parse/sync';
import { z } from 'zod';
import { createChannels, querySchedules } from '../channels/registry.ts';
import { clientToken, hashSecret } from '../client-token.ts';
import type { Config } from '../config.ts';
import { forbidsAnother } from '../domain/attempt.ts';
import { ACCOUNT_NAME, ACCOUNT_NAME_RULE } from '../domain/channel.ts';
import { amountText, isAmount, isCurrentCurrency } from '../domain/money.ts';
import { orderIdFault } from '../domain/order-id.ts';
import { defaultSubject, EXPIRY_AT_LEAST_S } from '../domain/payment.ts';
import { Refusal } from '../domain/refusal.ts';
import { isLive } from '../domain/states.ts';
import { isStorable, readableFault } from '../domain/text.ts';
import { adoptTrade, askAgain, findAdoptable } from '../ledger/adopt.ts';
import type { LedgerClient } from '../ledger/client.ts';
import { CredentialsCache } from '../ledger/credentials-cache.ts';
import { isUnfilled, requireOrderAsGiven, UnaskedAttempts } from '../ledger/new-payment.ts';
import { requestCancel } from '../ledger/payments.ts';
import type { Payment } from '../ledger/rows.ts';
import { TooBusy } from '../ledger/transaction-limits.ts';
import { PaymentWorkflows, TemporalUnavailable } from '../temporal/payment-workflows.ts';
import { merchantOf, readText } from './channels.ts';
import { CommandError } from './errors.ts';
import { DEADLINE_MS, withTemporal } from './recover.ts';

/**
 * `npm run nodrop -- adopt`: adopts the trades in a file. These are the trades that are pending when a shop switches to
 * nodrop.
 */

export interface AdoptOptions {
  /** The path of the file, or `-` for standard input. */
  readonly file: string;
  readonly merchant?: string;
  readonly dryRun?: true;
}

const FILE_AT_MOST_BYTES = 64 * 1024 * 1024;
const CHANNEL_ANSWERS_WITHIN_MS = 10_000;
/**
 * If the channel gives no answer for this number of consecutive lines of an account, the command treats the account as
 * unreachable.
 */
const SILENT_IN_A_ROW = 10;
/**
 * The longest wait that the command accepts from a channel. If the channel requests a longer wait, the command refuses
 * the line, and its next run tries the line again.
 */
const WAIT_AT_MOST_S = 60;
const SAY_EVERY = 100;
const LOOK_EVERY_MS = 200;
const MAX_EXPIRY_S = 7 * 86_400;

const REQUIRED = ['order_id', 'channel', 'reference'] as const;
const OPTIONAL = ['amount', 'currency', 'subject', 'account', 'method', 'own', 'expires_in_seconds'] as const;

const wholeNumber = z
  .string()
  .regex(/^\d{1,16}$/, 'must be a whole number')
  .transform(Number);
const text = (atMost: number) =>
  z.string().max(atMost, `must be at most ${atMost} characters`).refine(isStorable);

/** One line of the file with trades, without its empty fields. */
const lineSchema = (mode: Config['mode']) =>
  z
    .object({
      order_id: z.string().superRefine((id, context) => {
        const fault = orderIdFault(id);
        if (fault !== undefined) context.addIssue(fault);
      }),
      channel: text(32),
      reference: text(200),
      amount: wholeNumber.refine(isAmount, 'must be an amount in minor units, 1 at least').optional(),
      currency: z.string().refine(isCurrentCurrency, 'must be the code of a current currency').optional(),
      subject: text(128)
        .superRefine((subject, context) => {
          const fault = readableFault(subject);
          if (fault !== undefined) context.addIssue(fault);
        })
        .optional(),
      account: z.string().regex(ACCOUNT_NAME, ACCOUNT_NAME_RULE).optional(),
      method: text(32).optional(),
      own: z.enum(['true', 'false'], 'must be true or false').optional(),
      expires_in_seconds: wholeNumber
        .refine(
          (seconds) => seconds >= EXPIRY_AT_LEAST_S[mode] && seconds <= MAX_EXPIRY_S,
          `must be from ${EXPIRY_AT_LEAST_S[mode]} to ${MAX_EXPIRY_S}`,
        )
        .optional(),
    })
    .refine(({ amount, currency }) => (amount === undefined) === (currency === undefined), {
      path: ['amount'],
      error: 'amount and currency go together',
    });
type Line = z.output<ReturnType<typeof lineSchema>>;

/** The outcome of a line that the command did not refuse. */
type Outcome = 'adopted' | 'already adopted' | 'would be adopted';

/**
 * Queries each trade of the file at its channel and adopts it for its order, as `POST /v1/payments` does. A line that
 * cannot be adopted does not stop the following lines. The command can run again with the same file, because adopted
 * trades stay adopted. With `dryRun`, the command writes nothing.
 * @throws CommandError when the file cannot be read, or when lines were not adopted (with the number of these lines)
 */
export async function adopt(
  db: LedgerClient,
  options: AdoptOptions,
  config: Config,
  say: (line: string) => void,
): Promise<void> {
  const merchant = await merchantOf(db, options.merchant, config);
  const records = await readRecords(options.file);
  say(`${records.length} trades of merchant ${merchant.name}.`);
  const run = new Run(db, merchant.id, config, options.dryRun === true, say);
  if (options.dryRun) await run.each(records, null);
  else {
    await withTemporal(config, async (client) => {
      await run.each(records, new PaymentWorkflows(client, querySchedules(config)));
    });
  }
  run.requireAll();
}

interface FileRecord {
  /** Line number in the file, counted from 1. */
  readonly line: number;
  readonly fields: Readonly<Record<string, string>>;
}

/** @throws CommandError when the file is not CSV, or does not have the expected columns */
async function readRecords(file: string): Promise<readonly FileRecord[]> {
  const { text: content, where } = await readText(file, FILE_AT_MOST_BYTES);
  let head: readonly string[] = [];
  try {
    const read = parse<Record<string, string>>(content, {
      bom: true,
      trim: true,
      skip_empty_lines: true,
      info: true,
      columns: (names: string[]) => {
        head = names;
        return names;
      },
    }) as unknown as { record: Record<string, string>; info: { lines: number } }[];
    requireColumns(head, where);
    return read.map(({ record, info }) => ({ line: info.lines, fields: record }));
  } catch (error) {
    if (!(error instanceof CsvError)) throw error;
    throw new CommandError(`${where} is not a CSV file with a header line: ${error.message}.`);
  }
}

function requireColumns(head: readonly string[], where: string): void {
  const known: readonly string[] = [...REQUIRED, ...OPTIONAL];
  const missing = REQUIRED.filter((name) => !head.includes(name));
  const unknown = head.filter((name) => !known.includes(name));
  if (missing.length > 0)
    throw new CommandError(`${where} has no column ${missing.join(', ')}: its first line names the columns.`);
  if (unknown.length > 0)
    throw new CommandError(
      `${where} has unknown columns: ${unknown.join(', ')}. There are ${known.join(', ')}.`,
    );
}

const ask = <T>(read: (signal: AbortSignal) => Promise<T>): Promise<T> =>
  read(AbortSignal.timeout(CHANNEL_ANSWERS_WITHIN_MS));

class Run {
  readonly #db: LedgerClient;
  readonly #merchantId: string;
  readonly #config: Config;
  readonly #isDry: boolean;
  readonly #say: (line: string) => void;
  readonly #channels;
  readonly #schema;
  readonly #counts = new Map<Outcome | 'refused' | 'not tried', number>();
  /** The number of consecutive lines for which the channel gave no answer, by channel and account. */
  readonly #silent = new Map<string, number>();
  /** The trades in the lines that a dry run has already read, each with its order. */
  readonly #orders = new Map<string, string>();
  /** The number of lines for which Temporal gave no answer since the last line that succeeded. */
  #temporalAway = 0;

  constructor(
    db: LedgerClient,
    merchantId: string,
    config: Config,
    isDry: boolean,
    say: (line: string) => void,
  ) {
    this.#db = db;
    this.#merchantId = merchantId;
    this.#config = config;
    this.#isDry = isDry;
    this.#say = say;
    this.#channels = createChannels(config, new CredentialsCache(db, config.secret));
    this.#schema = lineSchema(config.mode);
  }

  /**
   * Tries each line. Reports the outcomes, even if an error ends the run early.
   * @param workflows null in a dry run
   * @throws the error that ends the run early, for example when the database is unreachable
   */
  async each(records: readonly FileRecord[], workflows: PaymentWorkflows | null): Promise<void> {
    let done = 0;
    try {
      for (const { line, fields } of records) {
        done += 1;
        await this.#one(line, fields, workflows);
        if (done % SAY_EVERY === 0) this.#say(`${done} of ${records.length} ...`);
      }
    } finally {
      for (; done < records.length; done++) this.#count('not tried');
      this.#report();
    }
  }

  #of(what: Outcome | 'refused' | 'not tried'): number {
    return this.#counts.get(what) ?? 0;
  }

  #report(): void {
    const words = (['adopted', 'would be adopted', 'already adopted', 'refused', 'not tried'] as const)
      .filter((what) => this.#of(what) > 0 || what === (this.#isDry ? 'would be adopted' : 'adopted'))
      .map((what) => `${this.#of(what)} ${what}`);
    this.#say(`${words.join(', ')}.${this.#isDry ? ' Nothing was written.' : ''}`);
  }

  /** @throws CommandError when the command refused a line or did not try a line */
  requireAll(): void {
    const left = this.#of('refused') + this.#of('not tried');
    if (left > 0)
      throw new CommandError(
        `${left} lines were not adopted. Correct them and run the command again with the same file.`,
      );
  }

  #count(what: Outcome | 'refused' | 'not tried'): void {
    this.#counts.set(what, (this.#counts.get(what) ?? 0) + 1);
  }

  async #one(line: number, fields: FileRecord['fields'], workflows: PaymentWorkflows | null): Promise<void> {
    const given = Object.fromEntries(Object.entries(fields).filter(([, value]) => value !== ''));
    const parsed = this.#schema.safeParse(given);
    if (!parsed.success) {
      const faults = parsed.error.issues.map(({ path, message }) => `${path.join('.')}: ${message}`);
      return this.#refuse(line, faults.join('; '));
    }
    const { data } = parsed;
    const asked = `${data.channel} ${data.account ?? ''}`.trimEnd();
    const name = `${data.reference} for order ${data.order_id}`;
    if ((this.#silent.get(asked) ?? 0) >= SILENT_IN_A_ROW) {
      this.#count('not tried');
      return;
    }
    try {
      const outcome = await this.#adopt(data, workflows);
      this.#temporalAway = 0;
      this.#silent.delete(asked);
      this.#count(outcome.what);
      if (this.#isDry || outcome.isOver)
        this.#say(`line ${line}: ${name}: ${outcome.what}, ${outcome.state}`);
    } catch (error) {
      if (error instanceof UnaskedAttempts) {
        const [live] = error.attempts;
        return this.#refuse(line, `${name}: payment ${live?.id} of the order is live. Cancel it first.`);
      }
      if (error instanceof TooBusy)
        return this.#refuse(
          line,
          `${name}: too many requests for this order at once. Run the command again.`,
        );
      if (error instanceof TemporalUnavailable && ++this.#temporalAway < SILENT_IN_A_ROW)
        return this.#refuse(line, `${name}: Temporal did not answer in time. Run the command again.`);
      if (!(error instanceof Refusal)) {
        this.#refuse(line, `${name}: an error ended the run.`);
        throw error;
      }
      this.#refuse(line, `${name}: ${error.code}. ${error.message}`);
      const isSilent = error.code === 'channel_unreachable' || error.code === 'channel_misconfigured';
      const silent = isSilent ? (this.#silent.get(asked) ?? 0) + 1 : 0;
      this.#silent.set(asked, silent);
      if (silent === SILENT_IN_A_ROW)
        this.#say(`${asked} has not answered ${silent} times in a row. Its remaining lines are not tried.`);
    }
  }

  #refuse(line: number, why: string): void {
    this.#count('refused');
    this.#say(`line ${line}: ${why}`);
  }

  async #adopt(
    given: Line,
    workflows: PaymentWorkflows | null,
  ): Promise<{ what: Outcome; state: string; isOver: boolean }> {
    const { secret, mode, paymentExpiryMs } = this.#config;
    const { channel, reference, account, method, order_id: id, amount, currency } = given;
    const wanted = { channel, reference, account, method, mode };
    const order =
      amount === undefined || currency === undefined
        ? { id }
        : {
            ...{ id, amount, currency, subject: given.subject ?? defaultSubject(id) },
            ...{ metadata: {}, expiresInSeconds: undefined },
          };
    const looked = await this.#look(order, wanted);
    if ('adopted' in looked) {
      if (workflows !== null) {
        if ('amount' in order) await requireOrderAsGiven(this.#db, this.#merchantId, order);
        await askAgain(this.#db, this.#channels.get(channel), looked.adopted, ask, new Date());
        if (looked.adopted.status !== 'succeeded') await workflows.wake(looked.adopted, DEADLINE_MS);
      }
      return { what: 'already adopted', state: looked.adopted.status, isOver: false };
    }
    const { state } = looked.found.answer;
    if (workflows === null) {
      await this.#requireFreeOrder(order, `${channel} ${account ?? ''} ${reference}`);
      return { what: 'would be adopted', state, isOver: false };
    }
    const made = (askedAttempts: ReadonlySet<string>) =>
      adoptTrade(
        this.#db,
        this.#merchantId,
        order,
        wanted,
        looked,
        {
          ...{ payer: undefined, returnUrl: undefined, metadata: undefined, askedAttempts },
          as: given.own === 'true' ? 'own' : 'watched',
          expiresInMs:
            given.expires_in_seconds === undefined ? paymentExpiryMs : given.expires_in_seconds * 1000,
        },
        (paymentId) => hashSecret(clientToken(secret, paymentId)),
        new Date(),
      );
    const { payment, created } = await made(new Set()).catch(async (error: unknown) => {
      // If other attempts block the adoption, the command queries and ends them, as `POST /v1/payments` does. The
      // command ends only adopted attempts, and never an attempt that nodrop has created.
      if (!(error instanceof UnaskedAttempts) || error.attempts.some(({ adopted }) => adopted === null))
        throw error;
      for (const attempt of error.attempts) await this.#end(attempt, workflows);
      return await made(new Set(error.attempts.map(({ id: asked }) => asked)));
    });
    await workflows.wake(payment, DEADLINE_MS);
    const isOver = state === 'closed' || state === 'failed' || state === 'refunded';
    return { what: created ? 'adopted' : 'already adopted', state, isOver };
  }

  /**
   * Throws in a dry run if the real run would refuse the trade although the trade fits its order.
   * @throws Refusal `adopt_taken`, `order_exists`
   * @throws UnaskedAttempts
   */
  async #requireFreeOrder(
    order: { readonly id: string; readonly amount?: number; readonly currency?: string },
    trade: string,
  ): Promise<void> {
    const { id } = order;
    const of = this.#orders.get(trade);
    if (of !== undefined && of !== id)
      throw new Refusal('adopt_taken', `An earlier line adopts it for order ${of}.`);
    this.#orders.set(trade, id);
    const owned = { merchantId: this.#merchantId, id };
    const there = await this.#db.order.findUnique({ where: { merchantId_id: owned } });
    if (there === null) return;
    const isOther = BigInt(order.amount ?? there.amount) !== there.amount;
    if (!isUnfilled(there) && (isOther || (order.currency ?? there.currency) !== there.currency))
      throw new Refusal('order_exists', `The order is for ${amountText(there.amount, there.currency)}.`);
    const live = await this.#db.payment.findMany({
      where: { merchantId: this.#merchantId, orderId: id, adopted: null },
    });
    const attempts = live.filter(({ status }) => isLive(status));
    if (attempts.length > 0) throw new UnaskedAttempts(attempts);
  }

  /**
   * Queries the channel about a live adopted payment. Cancels the payment if it is not paid, so that another trade of
   * its order can be adopted.
   * @throws Refusal `attempt_unresolved`, TemporalUnavailable
   */
  async #end(attempt: Payment, workflows: PaymentWorkflows): Promise<void> {
    const { id } = attempt;
    const read = () => this.#db.payment.findUniqueOrThrow({ where: { id } });
    if (!(await workflows.askChannel(attempt, CHANNEL_ANSWERS_WITHIN_MS))) return;
    const asked = await read();
    const refusal = forbidsAnother(asked);
    if (refusal !== null) throw refusal;
    if (!isLive(asked.status)) return;
    await requestCancel(this.#db, id, 'the adoption of another trade of the same order', new Date());
    await workflows.cancel(asked, DEADLINE_MS);
    const until = Date.now() + CHANNEL_ANSWERS_WITHIN_MS;
    let now = await read();
    while (isLive(now.status) && forbidsAnother(now) === null && Date.now() < until) {
      await sleep(LOOK_EVERY_MS);
      now = await read();
    }
  }

  /**
   * Queries the channel. If the channel requests a wait, waits and queries once more.
   * @throws Refusal
   */
  async #look(order: Parameters<typeof findAdoptable>[3], wanted: Parameters<typeof findAdoptable>[4]) {
    const adapter = this.#channels.get(wanted.channel);
    const look = () => findAdoptable(this.#db, adapter, this.#merchantId, order, wanted, new Date(), ask);
    try {
      return await look();
    } catch (error) {
      const wait = error instanceof Refusal ? error.retryAfterSeconds : undefined;
      if (wait === undefined || wait > WAIT_AT_MOST_S) throw error;
      await sleep(wait * 1000);
      return await look();
    }
  }
}
