import { readdirSync, readFileSync } from 'node:fs';

/**
 * Collects the texts that people read in this repository, so that some can be drawn at random. See
 * docs/contributing/wording.md.
 */

const TEXT_KINDS = ['message', 'document', 'comment', 'test name'] as const;
export type TextKind = (typeof TEXT_KINDS)[number];

export interface Text {
  readonly kind: TextKind;
  /** The place of the text: `path:line`, where `line` is the number of the text's first line. */
  readonly at: string;
  readonly text: string;
}

/** Files that are left out. They are generated, or must not change, or quote texts of other files. */
const SKIPPED =
  /(^|\/)(generated|histories|node_modules|cjs)\/|^docs\/contributing\/wording(-draw)?\.md$|^clients\/js\/api\.d\.ts$|\.zh\.md$/;
const FOLDERS = ['src', 'test', 'bench', 'scripts', 'examples', 'clients', 'docs'];
const PAGES = ['README.md', 'CHANGELOG.md', 'CONTRIBUTING.md', 'SECURITY.md'];

/** Every text of at least four words that is written by hand. A placeholder `${…}` or a currency code is no word. */
export function readTexts(): readonly Text[] {
  const files = FOLDERS.flatMap((folder) =>
    readdirSync(folder, { recursive: true, encoding: 'utf8' }).map((name) => `${folder}/${name}`),
  );
  return [...files.sort(), ...PAGES]
    .filter((file) => !SKIPPED.test(file))
    .flatMap((file) => {
      if (file.endsWith('.md')) return readMarkdown(file);
      return /\.(ts|js|mjs)$/.test(file) ? readCode(file) : [];
    })
    .filter(
      ({ text }) =>
        (text.replaceAll(/\$\{[^}]*\}/g, '').match(/(?<!\S)\S*[a-z\p{Script=Han}]\S*/gu) ?? []).length >= 4,
    );
}

/** Each text is one paragraph, list item or table row. Headings and code are left out. */
function readMarkdown(file: string): Text[] {
  const texts: { kind: 'document'; at: string; text: string }[] = [];
  let isCode = false;
  /** True if the next line may continue the paragraph or list item of this line. */
  let isOpen = false;
  for (const [index, line] of readFileSync(file, 'utf8').split('\n').entries()) {
    if (/^\s*```/.test(line)) isCode = !isCode;
    const [, item = '', text = ''] = /^\s*((?:[-*]|\d+\.|>)\s+)?(.*?)\s*$/.exec(line) ?? [];
    const isSkipped = isCode || text === '' || /^(#+\s|```|<|\|[\s|:-]+$|\[!)/.test(text);
    const last = texts.at(-1);
    if (!isSkipped && isOpen && item === '' && !text.startsWith('|') && last !== undefined)
      last.text += ` ${text}`;
    else if (!isSkipped) texts.push({ kind: 'document', at: `${file}:${index + 1}`, text });
    isOpen = !isSkipped && !text.startsWith('|');
  }
  return texts;
}

/** Matches the start of a test or group, or the end of its table, up to the parenthesis before the name. */
const CALL = String.raw`^(\s*)(?:(?:test|describe)(?:\.\w+)*(?:\(|\b.*\)\()|[\]})].*\)\()`;
const TEST_NAME = new RegExp(`${CALL}${String.raw`\s*(['"\`])((?:\\.|(?!\2).)+)\2`}`);
/** Matches the start of a test or group whose name is on the next line. */
const BEFORE_TEST_NAME = new RegExp(`${CALL}$`);
/** Matches a literal of at least four words, which is a message or a description in the API. */
const LITERAL = /(['"`])((?:\\.|(?!\1).)*\w\s+\S+\s+\S+\s+\S(?:\\.|(?!\1).)*)\1/;

/** Matches a literal that is code or SQL. */
const NOT_A_TEXT =
  /^[),]|=>|[!=]==|&&| \?(\s|$)|^\s*(SELECT|INSERT|UPDATE|DELETE|WITH|FROM|WHERE|AND|JOIN)\b|\bAS \(/;

const PART = /(['"`])((?:\\.|(?!\1).)+)\1/;

function readCode(file: string): Text[] {
  const texts: Text[] = [];
  const isTest = file.startsWith('test/');
  /** The previous line, if the name of a test or group follows on the next line. Otherwise empty. */
  let before = '';
  /** True if the last test or group that began is a group. */
  let isGroup = false;
  let comment: { line: number; words: string[] } | undefined;
  /** The first part of a message whose literal continues on the next line. */
  let begun: { at: string; text: string } | undefined;
  /** The names of the `describe` blocks around a line, with their indentation. */
  let around: { indent: number; name: string }[] = [];
  const endComment = () => {
    if (comment !== undefined)
      texts.push({
        kind: 'comment',
        at: `${file}:${comment.line}`,
        text: comment.words.join(' ').replaceAll(/ *\n/g, '\n').trim(),
      });
    comment = undefined;
  };
  for (const [index, line] of readFileSync(file, 'utf8').split('\n').entries()) {
    const found = /^\s*(?:\/\/+|\/\*\*?|\*\/|\*(?=\s|$))\s?(.*?)\s*(?:\*\/)?$/.exec(line);
    if (found !== null) {
      comment ??= { line: index + 1, words: [] };
      // A tag begins a new line, as it does in the file.
      if (found[1] !== undefined && found[1] !== '') comment.words.push(found[1].replace(/^@/, '\n$&'));
      if (line.includes('*/')) endComment();
      continue;
    }
    endComment();
    const at = `${file}:${index + 1}`;
    const [, space = '', , name] = (isTest && TEST_NAME.exec(`${before}${line}`)) || [];
    before = isTest && BEFORE_TEST_NAME.test(line) ? line : '';
    isGroup = /^\s*describe\b/.test(line) || (isGroup && !/^\s*test\b/.test(line));
    if (name !== undefined) {
      around = around.filter(({ indent }) => indent < space.length);
      texts.push({ kind: 'test name', at, text: [...around.map((block) => block.name), name].join(' > ') });
      if (isGroup) around.push({ indent: space.length, name });
    } else if (file.startsWith('src/') && !/^\s*import\b/.test(line)) {
      const literal = (begun === undefined ? LITERAL : PART).exec(line)?.[2];
      if (literal !== undefined && !NOT_A_TEXT.test(literal)) {
        begun = begun === undefined ? { at, text: literal } : { ...begun, text: begun.text + literal };
      }
      if (begun !== undefined && !line.trimEnd().endsWith('+')) {
        texts.push({ kind: 'message', ...begun });
        begun = undefined;
      }
    }
  }
  endComment();
  return texts;
}

/**
 * Draws texts at random, the same number of each kind.
 * @param random returns numbers from 0 to 1
 */
export function drawTexts(texts: readonly Text[], count: number, random: () => number): readonly Text[] {
  return TEXT_KINDS.flatMap((kind) => {
    const left = texts.filter((text) => text.kind === kind);
    return Array.from({ length: Math.ceil(count / TEXT_KINDS.length) }, () =>
      left.splice(Math.floor(random() * left.length), 1),
    ).flat();
  });
}
