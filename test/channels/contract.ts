import { describe, test } from 'vitest';
import { Bench, type ContractCase } from './contract/bench.ts';
import { callbackCases } from './contract/callback-cases.ts';
import { declarationCases } from './contract/declaration-cases.ts';
import { failureCases } from './contract/failure-cases.ts';
import { refundCases } from './contract/refund-cases.ts';
import { tradeCases } from './contract/trade-cases.ts';
import type { SetUp } from './contract/types.ts';

/**
 * The contract of the channel port: the behaviour that nodrop relies on. The suite tests each adapter against its
 * channel over real HTTP. docs/channels/writing-one.md explains how to apply it.
 */
export const contractCases: readonly ContractCase[] = [
  ...declarationCases,
  ...tradeCases,
  ...refundCases,
  ...failureCases,
  ...callbackCases,
];

/**
 * Runs a case against a channel that has just started. @returns false if the case does not apply to the
 * channel
 */
export async function runCase(contractCase: ContractCase, setUp: SetUp): Promise<boolean> {
  const bench = await Bench.open(setUp);
  try {
    if (contractCase.appliesTo?.(bench.contract) === false) return false;
    await contractCase.run(bench);
    return true;
  } finally {
    await bench.close();
  }
}

/** Registers the cases of the suite as tests. A case that does not apply to the channel is skipped. */
export function describeContract(name: string, setUp: SetUp): void {
  describe(`the contract: ${name}`, () => {
    for (const contractCase of contractCases) {
      test(contractCase.name, async ({ skip }) => {
        if (!(await runCase(contractCase, setUp))) skip();
      });
    }
  });
}
