import { describeContract } from '../contract.ts';
import { startBank } from './bank.ts';

describeContract('a channel of bank debits, refunds that come back, and disputes', startBank);
