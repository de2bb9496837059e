import { describeContract } from '../contract.ts';
import { startLate } from './late.ts';

describeContract('a channel that closes late and must know the payer', startLate);
