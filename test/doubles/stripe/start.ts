import { type DoubleProcess, startDouble } from '../process.ts';
import type { COMMANDS } from './control.ts';

export type StripeDouble = DoubleProcess<typeof COMMANDS>;

export const startStripeDouble = (): Promise<StripeDouble> => startDouble('test/doubles/stripe/main.ts');
