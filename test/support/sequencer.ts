import { relative } from 'node:path';
import { BaseSequencer, type TestSpecification } from 'vitest/node';

/**
 * The slowest test files, with the slowest first. A fresh clone has no timings yet, and if a slow file starts
 * last, the whole run takes longer.
 */
const FIRST = [
  'test/workflows/stuck',
  'test/model/',
  'test/system/',
  'test/browser/',
  'test/clients/generated',
  'test/api/endpoint/authorisation',
  'test/api/process',
  'test/api/merchant-commands',
  'test/workflows/stripe',
  'test/workflows/wallets',
  'test/workflows/mollie',
  'test/workflows/waits',
  'test/workflows/refund',
  'test/workflows/order-service',
  'test/workflows/inflight',
];

/** Starts the slowest files first. vitest decides the order of the other files. */
export class SlowestFirst extends BaseSequencer {
  override async sort(files: TestSpecification[]): Promise<TestSpecification[]> {
    const rank = ({ moduleId }: TestSpecification) => {
      const path = relative(this.ctx.config.root, moduleId);
      const found = FIRST.findIndex((start) => path.startsWith(start));
      return found === -1 ? FIRST.length : found;
    };
    return (await super.sort(files)).sort((a, b) => rank(a) - rank(b));
  }
}
