import DataLoader from 'dataloader';
import { isFinal } from '../../domain/states.ts';
import { findPaymentsOfPayers, type PaymentOfPayer, type PaymentWithRefund } from '../../ledger/queries.ts';
import type { Api } from '../api-deps.ts';
import { type Access, requireAccess } from '../endpoint/auth.ts';
import type { PayerPaymentView, PaymentView } from '../schemas/payment.ts';
import { orderStateOf } from './order-state.ts';
import { presentPayment, presentPaymentToPayer } from './present.ts';
import { checkoutUrl, presentationFor } from './presentation.ts';
import { findPaymentById, findPaymentByToken } from './read-payment.ts';
import { switchOptions } from './switch-options.ts';

/** A payment as it was read for somebody. */
export interface ReadPayment {
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
export function createReadPaymentView(api: Api) {
  const ofPayers = new DataLoader((ids: readonly string[]) => findPaymentsOfPayers(api.db, ids), {
    cache: false,
  });
  return async (access: Access, id: string): Promise<ReadPayment> => {
    if (access.kind === 'key') {
      const row = requireAccess(await findPaymentById(api, id), access, id, api.now());
      return {
        row,
        isFinal: () => isFinalRow(row),
        view: () => presentPayment(row, presentationFor(api, access.caller)),
      };
    }
    const found = await findPaymentByToken(api, access, id, () => ofPayers.load(id));
    const row = requireAccess(found, access, id, api.now());
    return {
      row,
      // Without money, and yet their money may be on its way: by another attempt, or late.
      isFinal: () =>
        isFinalRow(row) && (row.status === 'succeeded' || orderStateOf(row, api.now()) !== 'undecided'),
      view: () => presentToPayer(api, row, access.token),
    };
  };
}

const isFinalRow = ({ status, orderUpdate }: PaymentWithRefund) => isFinal(status, orderUpdate);

/** What a payer sees who has this token. */
export function presentToPayer(api: Api, row: PaymentOfPayer, token: string): PayerPaymentView {
  const now = api.now();
  const url = checkoutUrl(api.config.api, row.id, token);
  return presentPaymentToPayer(row, now, url, switchOptions(row, api.channels, api.config.mode, now));
}
