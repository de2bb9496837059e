import { toolSettings } from '../test/support/tool-settings.ts';
import { hasNodes, lookUpNode, NODES } from './nodes.ts';
import { type Outcome, runVitest } from './vitest.ts';

/** Tests that also run on each version in `NODES`: workflows, ledger, API, HTTP calls, and the whole system. */
const SLICE = [
  'test/workflows/inflight.test.ts',
  'test/workflows/refund.test.ts',
  'test/workflows/refund-elsewhere.test.ts',
  'test/workflows/refund-refused.test.ts',
  'test/ledger/payments',
  'test/api/routes/payment-reads.test.ts',
  'test/api/routes/payments.test.ts',
  'test/order-service/client',
  'test/system/push.test.ts',
];

/** Runs the slice on each installed Node version, one after the other. */
export function runSlice(): readonly Outcome[] {
  const { cacheDir } = toolSettings();
  if (!hasNodes()) {
    console.log(
      `\nThe slice of the tests on Node ${NODES.join(' and ')} is skipped: npm has these versions only for Linux.`,
    );
  }
  return NODES.flatMap((version) => {
    const node = lookUpNode(version, cacheDir);
    if (node === undefined) return [];
    console.log(`\na slice of the tests on Node ${version}:`);
    return [runVitest(node, SLICE)];
  });
}
