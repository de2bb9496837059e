import { describeContract } from '../contract.ts';
import { startBank } from './bank.ts';

describeContract('a channel with bank debits, reversed refunds and disputes', startBank);
