// Tests that the receivers of the quickstarts in other languages meet the same contract as the JavaScript receiver.
import { describe } from 'vitest';
import { LANGUAGES } from './languages.ts';
import { receiverContract } from './receiver-contract.ts';

for (const { name, needs, isHere, receiver } of LANGUAGES) {
  const isSkipped = !isHere();
  if (isSkipped) console.error(`The tests of the ${name} quickstart are skipped: they need ${needs}.`);
  describe.skipIf(isSkipped)(name, () => receiverContract(receiver));
}
