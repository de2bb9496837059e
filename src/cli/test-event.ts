import type { Config } from '../config.ts';
import type { LedgerClient } from '../ledger/client.ts';
import { testEvents } from '../ledger/event-samples.ts';
import { findOrderService } from '../ledger/merchants.ts';
import { OrderServiceClient } from '../order-service/client.ts';
import { CommandError } from './errors.ts';
import { noMerchant } from './merchants.ts';
import { table } from './table.ts';

/**
 * `merchants test-event`: sends one signed event of each type to the merchant's order service, and prints the answers.
 * The events are marked as test events and belong to no payment. They do not appear in the event feed or in the
 * delivery log.
 * @throws CommandError when the merchant has no order service, or when the order service does not answer each event
 * with 2xx
 */
export async function sendTestEvents(
  db: LedgerClient,
  name: string,
  config: Pick<Config, 'secret' | 'orderServices'>,
  now: Date,
  say: (line: string) => void,
): Promise<void> {
  const merchant = await db.merchant.findUnique({ where: { name } });
  if (merchant === null) throw noMerchant(name);
  const target = await findOrderService(db, merchant.id, config.secret, now);
  if (target === null) {
    throw new CommandError(
      `Merchant ${name} has no order service. Configure one: merchants set ${name} --order-service-url URL`,
    );
  }
  const client = new OrderServiceClient(config.orderServices);
  const answers = await Promise.all(
    testEvents(now).map(async ({ id, body }) => {
      const message = { id, paymentId: body.data.payment.id, body: JSON.stringify(body), at: now };
      return { type: body.type, answer: await client.deliver(target, message) };
    }),
  );
  const rows = answers.map(({ type, answer }) => [
    type,
    answer.statusCode === null ? '-' : String(answer.statusCode),
    answer.answer === undefined ? wordsOf(answer) : `${wordsOf(answer)} It says: ${answer.answer}`,
  ]);
  say(`Test events, signed like every event of merchant ${name}, sent to ${target.url}:`);
  for (const line of table([['TYPE', 'STATUS', 'ANSWER'], ...rows])) say(line);
  const refused = answers.filter(({ answer }) => answer.kind !== 'agreed');
  if (refused.length === 0) return;
  const isUnsigned = refused.some(({ answer }) => answer.statusCode === 401);
  throw new CommandError(
    `${refused.length} of ${answers.length} were not answered with 2xx. A receiver must verify a test event, answer 2xx, and otherwise ignore it.` +
      (isUnsigned
        ? ` After 401, compare the receiver's secret: "merchants list" shows the last four characters of the right one.`
        : ''),
  );
}

type Answer = Awaited<ReturnType<OrderServiceClient['deliver']>>;

function wordsOf(answer: Answer): string {
  switch (answer.kind) {
    case 'agreed':
      return 'Accepted.';
    case 'conflict':
      return `The order is paid by ${answer.paidPaymentId}.`;
    case 'gone':
      return 'The order is gone.';
    case 'order_unknown':
      return 'It does not know the order.';
    case 'unknown':
      return answer.reason;
  }
}
