import DataLoader from 'dataloader';
import { isFinal } from '../../domain/states.ts';
import { findPaymentsOfPayers, type PaymentOfPayer, type PaymentWithRefund } from '../../ledger/views.ts';
import type { Api } from '../deps.ts';
import { type Access, requireVisible } from '../endpoint/auth.ts';
import type { PayerPaymentView, PaymentView } from '../schemas/payment.ts';
import { orderStateOf } from './order-state.ts';
import { switchOptions } from './switch-options.ts';
import { checkoutUrl, viewerOf } from './viewer.ts';
import { payerPaymentView, paymentView } from './views.ts';
import { lookUpOpened, lookUpPayment } from './visible-payment.ts';

/** A payment as it was read for somebody. */
export interface Seen {
  readonly row: PaymentWithRefund;
  /** True when nothing more happens by itself that they would want to see. */
  readonly isFinal: () => boolean;
  /** What they may see of it; time alone can change that. */
  readonly view: () => PaymentView | PayerPaymentView;
}

/**
 * @returns what reads a payment for its payer with the token, or for its merchant with a key. Reads of one moment are
 * one query, however many watch: Prisma puts equal `findUnique` together, and the loader the statements of payers.
 */
export function createSeePayment(api: Api) {
  const ofPayers = new DataLoader((ids: readonly string[]) => findPaymentsOfPayers(api.db, ids), {
    cache: false,
  });
  return async (access: Access, id: string): Promise<Seen> => {
    if (access.kind === 'key') {
      const row = requireVisible(await lookUpPayment(api, id), access, id, api.now());
      return {
        row,
        isFinal: () => isFinalRow(row),
        view: () => paymentView(row, viewerOf(api, access.caller)),
      };
    }
    const found = await lookUpOpened(api, access, id, () => ofPayers.load(id));
    const row = requireVisible(found, access, id, api.now());
    return {
      row,
      // Without money, and yet their money may be on its way: by another attempt, or late.
      isFinal: () =>
        isFinalRow(row) && (row.status === 'succeeded' || orderStateOf(row, api.now()) !== 'undecided'),
      view: () => viewOfPayer(api, row, access.token),
    };
  };
}

const isFinalRow = ({ status, orderUpdate }: PaymentWithRefund) => isFinal(status, orderUpdate);

/** What a payer sees who has this token. */
export function viewOfPayer(api: Api, row: PaymentOfPayer, token: string): PayerPaymentView {
  const now = api.now();
  const url = checkoutUrl(api.config.api, row.id, token);
  return payerPaymentView(row, now, url, switchOptions(row, api.channels, api.config.mode, now));
}
