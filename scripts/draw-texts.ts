import { readFileSync } from 'node:fs';
import { parseArgs } from 'node:util';
import { seeded } from '../src/demo/random.ts';
import { drawTexts, readTexts } from './texts.ts';

// npm run texts -- [--seed N]
//
// Prints 60 texts of this repository, drawn at random, for two readers who do not know the code. Each text is followed
// by the lines around it, because nobody reads a comment, a test name or a message without them.

const LINES_BEFORE = 5;
const LINES_AFTER = 8;

const { values } = parseArgs({ options: { seed: { type: 'string', default: '1' } } });
if (!/^\d{1,9}$/.test(values.seed)) {
  console.error(`--seed is a whole number, not ${values.seed}.`);
  process.exit(2);
}
const drawn = drawTexts(readTexts(), 60, seeded(Number(values.seed)));
for (const [index, { kind, at, text }] of drawn.entries()) {
  console.log(`${index + 1}. (${kind}, ${at})\n   ${text.replaceAll('\n', '\n   ')}`);
  for (const line of linesAround(at)) console.log(`      | ${line}`);
}

function linesAround(at: string): readonly string[] {
  const [file = '', line] = at.split(':');
  const first = Number(line) - 1;
  const lines = readFileSync(file, 'utf8').split('\n');
  return lines.slice(Math.max(0, first - LINES_BEFORE), first + 1 + LINES_AFTER);
}
