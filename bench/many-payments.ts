import type { Connection } from '../src/ledger/connection.ts';
import type { BenchMerchant } from './service.ts';

/** Inserts payments by SQL, because it would take too long to create all these payments through the API. */
export interface ManyPayments {
  readonly connection: Connection;
  readonly merchants: readonly BenchMerchant[];
  /** The payment ids are `p${from}` to `p${to}`. They are distributed over the merchants in turn. */
  readonly from: number;
  readonly to: number;
  /**
   * The state of the inserted payments. `created`: the channel does not know them. `paid`: their status is `paying`,
   * and the recorded answer of the channel says that they are paid.
   */
  readonly state: 'created' | 'paid';
}

/**
 * Inserts the payments without triggers and foreign keys, because these would double the time. The payments expire in a
 * day.
 */
export async function insertPayments(payments: ManyPayments): Promise<void> {
  const { connection, merchants, from, to, state } = payments;
  const ids = `(array[${merchants.map(({ id }) => `'${id}'`).join(', ')}])[1 + n % ${merchants.length}]`;
  const series = `generate_series(${from}, ${to}) n`;
  const isPaid = state === 'paid';
  await connection.query(
    `
    begin;
    set local session_replication_role = replica;
    insert into orders (merchant_id, id, amount, currency, subject, status)
      select ${ids}, 'o' || n, 1990, 'CNY', 'Coffee', '${isPaid ? 'paying' : 'unpaid'}' from ${series};
    insert into payments (id, merchant_id, order_id, channel, channel_account_id, method, amount, currency, status,
        client_token_hash, expires_at, channel_state, channel_answered_at, channel_answer)
      select 'p' || n, ${ids}, 'o' || n, 'simulator',
        (select id from channel_accounts a where a.merchant_id = ${ids} and a.channel = 'simulator'),
        'wallet', 1990, 'CNY', '${isPaid ? 'paying' : 'created'}', 'h' || n, now() + interval '1 day',
        ${isPaid ? "'paid', now(), paid_answer(n)" : 'null, null, null'}
      from ${series};
    commit`.replace('paid_answer(n)', PAID_ANSWER),
  );
}

/** The recorded answer in the format that the ledger's `recordAnswer` writes. */
const PAID_ANSWER = `jsonb_build_object('state', 'paid', 'channelPaymentId', 't' || n, 'amount', 1990, 'currency', 'CNY',
        'paidAt', to_char(now() at time zone 'utc', 'YYYY-MM-DD"T"HH24:MI:SS"Z"'), 'by', 'callback')`;
