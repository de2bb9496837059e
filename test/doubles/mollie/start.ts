import { type DoubleProcess, startDouble } from '../process.ts';
import type { COMMANDS } from './control.ts';

export type MollieDouble = DoubleProcess<typeof COMMANDS>;

export const startMollieDouble = (): Promise<MollieDouble> => startDouble('test/doubles/mollie/main.ts');
