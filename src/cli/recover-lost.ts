import { type Client, type WorkflowExecutionInfo, WorkflowNotFoundError } from '@temporalio/client';
import { createChannels, querySchedules } from '../channels/registry.ts';
import { clientToken, hashSecret } from '../client-token.ts';
import type { Config } from '../config.ts';
import { type ChannelAdapter, ChannelError } from '../domain/channel.ts';
import { refundNumber } from '../domain/ids.ts';
import { amountText } from '../domain/money.ts';
import { paymentWorkflowId, refundWorkflowId } from '../domain/names.ts';
import { fromMarkdown } from '../domain/text.ts';
import type { LedgerClient } from '../ledger/client.ts';
import { CredentialsCache } from '../ledger/credentials-cache.ts';
import { tradeOfRefund } from '../ledger/known-trade.ts';
import { recoverPayment } from '../ledger/recover-payment.ts';
import { findRefund } from '../ledger/refunds.ts';
import type { Payment } from '../ledger/rows.ts';
import { accountOf } from '../ledger/trade-of-payment.ts';
import { PaymentWorkflows } from '../temporal/payment-workflows.ts';
import {
  LOST_QUERY,
  PAYMENT_WORKFLOW,
  type PaymentInput,
  type RefundInput,
  wakeSignal,
} from '../workflows/messages.ts';
import { DEADLINE_MS, inBatches, throwFailures, withTemporal } from './recover.ts';
import { table } from './table.ts';

interface LostPayment {
  readonly id: string;
  readonly terms: PaymentInput;
}

interface LostRefund {
  readonly id: string;
  readonly paymentId: string;
  /** The summary that the workflow got at its start. */
  readonly summary: string;
  readonly since: Date;
}

/**
 * `npm run nodrop -- recover --lost`: for use after a backup was restored, or after a failover that lost commits. The
 * command lists the workflows whose row is missing. With `write`, it writes the payment rows again and wakes their
 * workflows. The command does not write a refund row again. Instead, it queries the refund under all numbers that
 * nodrop may have used, and then queries the trade. It records the refunded money and ends the refund's workflow. If
 * the refund was not made, the merchant must request it again. While the channel processes the refund or does not
 * answer, the workflow stays open. A second run of the command changes nothing.
 * @throws CommandError that lists the workflows that were not recovered, or says that Temporal is unreachable
 */
export async function recoverLost(
  db: LedgerClient,
  config: Config,
  write: boolean,
  say: (line: string) => void,
): Promise<void> {
  await withTemporal(config, async (client) => {
    const { payments, refunds } = await findLost(client, db);
    for (const line of describe(payments, refunds)) say(line);
    if (payments.length + refunds.length === 0) return;
    if (!write) {
      say('Nothing was changed. Once this is the database to continue with: recover --lost --write.');
      return;
    }
    const failures: string[] = [];
    const channels = createChannels(config, new CredentialsCache(db, config.secret));
    const workflows = new PaymentWorkflows(client, querySchedules(config));
    let written = 0;
    const woken = await inBatches(
      async () => ({ rows: payments, end: undefined }),
      async ({ id, terms }) => {
        const hash = hashSecret(clientToken(config.secret, id));
        const recovered = await recoverPayment(db, terms, hash, new Date());
        if (recovered.written) written += 1;
        await workflows.wake(recovered.payment, DEADLINE_MS);
      },
      failures,
      () => undefined,
    );
    let ended = 0;
    await inBatches(
      async () => ({ rows: refunds, end: undefined }),
      async ({ id, paymentId }) => {
        const run = client.workflow.getHandle(refundWorkflowId(id));
        if ((await findRefund(db, id, new Date())) !== null) return await run.signal(wakeSignal);
        const payment = await db.payment.findUnique({
          where: { id: paymentId },
          include: { channelAccount: true },
        });
        if (payment === null) throw new Error(`its payment ${paymentId} is not in the database either`);
        // Query the refund before the trade, so that a refund that has succeeded is included in the trade's refunded
        // amount.
        await requireDecided(db, channels.get(payment.channel), payment, id);
        // The query of the trade makes the workflow record the money that the channel has already refunded.
        if (!(await workflows.askChannel(payment, DEADLINE_MS)))
          throw new Error(`${payment.channel} did not answer how much of payment ${paymentId} was refunded`);
        await run.terminate('The row of the refund is lost: ended by recover --lost --write.');
        ended += 1;
      },
      failures,
      () => undefined,
    );
    say(
      `${written} payments are written again, and ${woken} payment workflows go on: each queries the channel. A paid payment settles, any other is cancelled.`,
    );
    if (ended > 0) {
      say(
        `${ended} refunds are ended. Refunds that the channel had already made are recorded as external. Request the refunds that it had not made again, with the same Idempotency-Key and amount.`,
      );
    }
    throwFailures(failures);
  });
}

/**
 * The number of refund numbers that the command queries. In the first hours of a refund, nodrop uses at most this many
 * numbers, even if the channel keeps refusing the refund.
 */
const KEYS_ASKED_FOR = 9;

/**
 * Checks that the channel is not processing the refund. During processing, a second request under another number could
 * refund the money twice.
 * @throws Error when a refund may still be made (processing, needs a person, or must be requested again), or when the
 *   channel does not answer or is not configured
 */
export async function requireDecided(
  db: LedgerClient,
  adapter: ChannelAdapter | undefined,
  payment: Payment,
  refundId: string,
): Promise<void> {
  const { channel } = payment;
  if (adapter === undefined) throw new Error(`channel ${channel} is not configured here`);
  const said = async <T>(ask: (signal: AbortSignal) => Promise<T>): Promise<T> => {
    try {
      return await ask(AbortSignal.timeout(DEADLINE_MS));
    } catch (error) {
      if (!(error instanceof ChannelError)) throw error;
      throw new Error(`${channel} did not answer a query about the refund: its workflow stays`, {
        cause: error,
      });
    }
  };
  const deps = { db, now: async () => new Date() };
  const trade = await said((signal) => tradeOfRefund(deps, adapter, payment, signal));
  // Query all numbers. The row of the refund is lost, so the number of its last request is not known.
  for (let attempt = 1; attempt <= KEYS_ASKED_FOR; attempt += 1) {
    const refund = { outRefundNo: refundNumber(refundId, attempt), channelRefundId: null };
    const { state } = await said((signal) => adapter.queryRefund(accountOf(payment), trade, refund, signal));
    if (state === 'processing' || state === 'needs_person' || state === 'ask_again')
      throw new Error(
        `${channel} still processes the refund: its workflow stays until the channel has decided`,
      );
  }
}

async function findLost(
  client: Client,
  db: LedgerClient,
): Promise<{ payments: LostPayment[]; refunds: LostRefund[] }> {
  const payments: LostPayment[] = [];
  const refunds: LostRefund[] = [];
  for await (const run of client.workflow.list({ query: LOST_QUERY })) {
    if (run.type === PAYMENT_WORKFLOW) {
      const terms = await readInput<PaymentInput>(client, run);
      payments.push({ id: terms.paymentId, terms });
    } else {
      const { refundId, paymentId } = await readInput<RefundInput>(client, run);
      const description = await client.workflow.getHandle(run.workflowId, run.runId).describe();
      const summary = fromMarkdown((await description.staticSummary()) ?? '');
      refunds.push({ id: refundId, paymentId, summary, since: run.startTime });
    }
  }
  for (const { paymentId } of refunds) {
    if (payments.some(({ id }) => id === paymentId)) continue;
    if ((await db.payment.findUnique({ where: { id: paymentId }, select: { id: true } })) !== null) continue;
    const terms = await readEndedTerms(client, paymentId);
    if (terms !== undefined) payments.push({ id: paymentId, terms });
  }
  return { payments, refunds };
}

/**
 * @returns the workflow input of a payment whose workflow had ended before the payment's row was lost, or undefined
 * when Temporal no longer keeps the workflow
 */
async function readEndedTerms(client: Client, paymentId: string): Promise<PaymentInput | undefined> {
  try {
    const run = await client.workflow.getHandle(paymentWorkflowId(paymentId)).describe();
    return await readInput<PaymentInput>(client, run);
  } catch (error) {
    if (error instanceof WorkflowNotFoundError) return undefined;
    throw error;
  }
}

/** @returns the input of the workflow run, from the first event of the run's history */
async function readInput<Input>(
  client: Client,
  { workflowId, runId }: Pick<WorkflowExecutionInfo, 'workflowId' | 'runId'>,
): Promise<Input> {
  const { history } = await client.workflowService.getWorkflowExecutionHistory({
    namespace: client.options.namespace,
    execution: { workflowId, runId },
    maximumPageSize: 1,
  });
  const [payload] = history?.events?.[0]?.workflowExecutionStartedEventAttributes?.input?.payloads ?? [];
  if (payload == null) throw new Error(`the history of ${workflowId} has no input`);
  return client.options.loadedDataConverter.payloadConverter.fromPayload<Input>(payload);
}

function describe(payments: readonly LostPayment[], refunds: readonly LostRefund[]): string[] {
  const lines: string[] = [];
  if (payments.length > 0) {
    const head = ['payment', 'order', 'amount', 'merchant', 'channel', 'created', 'expires'];
    const rows = payments.map(({ terms }) => [
      terms.paymentId,
      terms.orderId,
      amountText(terms.amount, terms.currency),
      terms.merchantId,
      terms.channel,
      new Date(terms.createdAt).toISOString(),
      new Date(terms.expiresAt).toISOString(),
    ]);
    lines.push(...table([head, ...rows]));
  }
  if (refunds.length > 0) {
    const rows = refunds.map(({ id, summary, since }) => [id, since.toISOString(), summary]);
    lines.push(...table([['refund', 'since', 'what'], ...rows]));
  }
  lines.push(
    `${payments.length} payments and ${refunds.length} refunds have a workflow but no row in the database.`,
  );
  return lines;
}
