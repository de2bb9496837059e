/** Marks a text that is already HTML. */
export class Html {
  readonly #text: string;

  constructor(text: string) {
    this.#text = text;
  }

  toString(): string {
    return this.#text;
  }
}

type Part = Html | string | number | null | readonly Part[];

const ENTITIES: Readonly<Record<string, string>> = {
  '&': '&amp;',
  '<': '&lt;',
  '>': '&gt;',
  '"': '&quot;',
  "'": '&#39;',
};

function write(part: Part): string {
  if (part instanceof Html) return part.toString();
  if (Array.isArray(part)) return part.map(write).join('');
  return part === null ? '' : String(part).replace(/[&<>"']/g, (sign) => ENTITIES[sign] ?? sign);
}

/** Builds HTML. Escapes every inserted value, unless the value is already Html. */
export function html(texts: TemplateStringsArray, ...parts: Part[]): Html {
  return new Html(texts.map((text, index) => text + write(parts[index] ?? null)).join(''));
}
