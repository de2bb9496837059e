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

/** A payment that was read for one caller. */
export interface ReadPayment {
  readonly row: PaymentWithRefund;
  /** True if the caller does not need to wait for further changes of the payment. */
  readonly isFinal: () => boolean;
  /**
   * Returns the caller's view of the payment. This is a function, because the view can change as time passes, without a
   * change in the database.
   */
  readonly view: () => PaymentView | PayerPaymentView;
}

/**
 * @returns a function that reads a payment for its payer with a token, or for its merchant with a key. Concurrent
 * reads share one database query. Prisma combines equal `findUnique` calls, and the data loader combines the reads of
 * payers.
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
      // An attempt that has ended unpaid is not final while its order is undecided, because money may still arrive.
      isFinal: () =>
        isFinalRow(row) && (row.status === 'succeeded' || orderStateOf(row, api.now()) !== 'undecided'),
      view: () => presentToPayer(api, row, access.token),
    };
  };
}

const isFinalRow = ({ status, orderUpdate }: PaymentWithRefund) => isFinal(status, orderUpdate);

/** Returns the view that the payer with this client token gets. */
export function presentToPayer(api: Api, row: PaymentOfPayer, token: string): PayerPaymentView {
  const now = api.now();
  const url = checkoutUrl(api.config.api, row.id, token);
  return presentPaymentToPayer(row, now, url, switchOptions(row, api.channels, api.config.mode, now));
}
