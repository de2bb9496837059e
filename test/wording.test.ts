import { readdirSync, readFileSync, statSync } from 'node:fs';
import { expect, test } from 'vitest';
import { drawTexts, readTexts } from '../scripts/texts.ts';
import { seeded } from '../src/demo/random.ts';

/**
 * Phrases that no text may use, and what to write instead: see docs/contributing/wording.md. They read as if they were
 * translated.
 */
const GONE: readonly (readonly [phrase: RegExp, instead: string])[] = [
  [/goes on unheard|what is late goes/i, 'is ignored'],
  [/\bHeard\.|'It does\.'/, 'Accepted. The process is up.'],
  [/found out by/i, 'detected by'],
  [/(the|a) wish is (recorded|in the ledger)/i, 'cancellation requested'],
  [/\bwhoever asks\b/i, 'the caller'],
  [/\bwhose calls are taken\b/i, 'which credentials the route accepts'],
  [/\bis told on\b/i, 'delivery is retried'],
  [/\bfor want of\b|\bin want of\b/i, 'without, because there is no'],
  [/\bmade up for\b/i, 'sent late, repeated later'],
  [/\bwhom it does not reach\b/i, 'what could not be reached'],
  [/\bby what became of\b/i, 'by outcome'],
  [/\bit misses nothing by that\b|\bin whichever words\b/i, 'say what happens'],
  [/\bis no news\b/i, 'changes nothing, is ignored'],
  [/\bhears? of\b|\bis heard\b/i, 'gets, is called with, is notified'],
  [/\bis for a try\b/i, 'enough to try it'],
  [/\bwe have a mistake\b|\bmistake of ours\b/i, 'internal error'],
  [/\ball the same\b/i, 'anyway'],
  [/\bfor ever\b/i, 'forever'],
  [/\bwhoever\b|\bwhom it\b/i, 'name the caller, the process or the operator'],
  [/\beverybody('s)?\b(?! only waits)/i, 'all payers, every merchant'],
  [/\btime-outs?\b/i, 'timeout'],
  [/\bmoney is in\b(?! an order)/i, 'the money has arrived'],
  [/\b(the|a) wish\b|\bwish(es)? to cancel\b/i, 'cancellation requested'],
  [/\bhas news\b|\bit has news\b/i, 'the channel sent a notice'],
  [/\b(none|nothing) of ours\b/i, "not nodrop's"],
  [/\bheeded\b/i, 'respected'],
  [/\bin vain\b/i, 'without success'],
  [/\bword for word\b/i, 'verbatim'],
  [/\bmade anew\b|\bbegins? anew\b|\basked anew\b/i, 'again'],
  [/\bfor so long\b|\bso often\b/i, 'state the time or the number'],
  [/\bis told again\b|\bare told again\b/i, 'delivery is retried'],
  [/\bdoes not take (our|this)\b/i, 'rejects, does not accept'],
  [/\bever more (rarely|often)\b/i, 'less and less often'],
  [/\bhas the order service told\b/i, 'delivers the event'],
  [/\bany more\b(?!\w)/i, 'no longer'],
  [/\bMade from\b/, 'Generated from'],
];

/** These name what not to write. */
const LISTS = ['docs/contributing/wording.md', 'test/wording.test.ts'];

const ROOTS = ['src', 'test', 'bench', 'scripts', 'docs', 'examples', 'clients/js'];
const isText = (path: string) => /\.(ts|js|md|json|sql|py|php|java|css|html)$/.test(path);

const files = [
  ...ROOTS.flatMap((root) =>
    readdirSync(root, { recursive: true, encoding: 'utf8' }).map((name) => `${root}/${name}`),
  ).filter(
    (path) =>
      isText(path) && !/\/(generated|cjs|node_modules|histories)\//.test(path) && !LISTS.includes(path),
  ),
  ...['README.md', 'CHANGELOG.md', 'CONTRIBUTING.md', 'SECURITY.md'],
].filter((path) => statSync(path).isFile());

test.each(GONE)('no text says %s', (phrase) => {
  const found = files.flatMap((path) =>
    readFileSync(path, 'utf8')
      .split('\n')
      .flatMap((line, index) => (phrase.test(line) ? [`${path}:${index + 1}: ${line.trim()}`] : [])),
  );
  expect(found).toEqual([]);
});

test('a draw contains the same number of messages, paragraphs, comments and test names, and cuts none of them off', () => {
  const texts = readTexts();
  const drawn = drawTexts(texts, 60, seeded(1));
  for (const kind of ['message', 'document', 'comment', 'test name'])
    expect(drawn.filter((text) => text.kind === kind)).toHaveLength(15);
  expect(new Set(drawn).size).toBe(60);
  expect(texts).toContainEqual({
    kind: 'comment',
    at: expect.stringContaining('test/wording.test.ts:'),
    text: 'These name what not to write.',
  });
  const names = texts.map(({ text }) => text);
  expect(names).toContain(
    'a draw contains the same number of messages, paragraphs, comments and test names, and cuts none of them off',
  );
  // In `test.each(table)(name)`, the name follows the table, on the same line or on a separate line.
  expect(names).toContainEqual(
    expect.stringMatching(/ > the triggers in the subject %s apply to the trade$/),
  );
  expect(names).toContainEqual(expect.stringMatching(/^amounts > POST %s refuses every invalid amount/));
});
