/** Everything the worker's workflow bundle holds. */
export { payment } from './payment.ts';
export { refund } from './refund.ts';
export { sweep } from './sweep.ts';
