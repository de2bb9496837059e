import { describeContract } from '../contract.ts';
import { startLinks } from './links.ts';

describeContract('a channel whose payer creates the trade by opening a link', startLinks);
