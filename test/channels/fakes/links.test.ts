import { describeContract } from '../contract.ts';
import { startLinks } from './links.ts';

describeContract('a channel whose payer makes the trade by a link', startLinks);
