import { describeContract } from '../contract.ts';
import { startNotices } from './notices.ts';

describeContract('a channel whose callbacks prove nothing', startNotices);
