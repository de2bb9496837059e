/** Everything the worker's workflow bundle holds. */
export { payment } from './payment.ts';
export { sweep } from './sweep.ts';
