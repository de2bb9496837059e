import { parseArgs } from 'node:util';
import { seeded } from '../src/demo/random.ts';
import { drawTexts, readTexts } from './texts.ts';

// npm run texts -- [--seed N]
//
// Prints 60 texts of this repository, drawn at random, for two readers who do not know the code.

const { values } = parseArgs({ options: { seed: { type: 'string', default: '1' } } });
if (!/^\d{1,9}$/.test(values.seed)) {
  console.error(`--seed is a whole number, not ${values.seed}.`);
  process.exit(2);
}
const drawn = drawTexts(readTexts(), 60, seeded(Number(values.seed)));
console.log(
  drawn
    .map(
      ({ kind, at, text }, index) => `${index + 1}. (${kind}, ${at})\n   ${text.replaceAll('\n', '\n   ')}`,
    )
    .join('\n'),
);
