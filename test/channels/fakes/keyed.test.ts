import { describeContract } from '../contract.ts';
import { startKeyed } from './keyed.ts';

describeContract('a channel that is queried only by its own ids', startKeyed);
