/** The workflows in the worker's bundle. */
export { delivery } from './delivery.ts';
export { payment } from './payment.ts';
export { redelivery } from './redelivery.ts';
export { refund } from './refund.ts';
export { sweep } from './sweep.ts';
