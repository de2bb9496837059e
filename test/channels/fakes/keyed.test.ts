import { describeContract } from '../contract.ts';
import { startKeyed } from './keyed.ts';

describeContract('a channel that is asked by its own ids alone', startKeyed);
