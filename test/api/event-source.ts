/** A reader of Server-Sent Events, written for the tests alone and from the standard. */

export interface StreamEvent {
  readonly event: string;
  readonly id: string;
  // biome-ignore lint/suspicious/noExplicitAny: tests look into answers of every shape.
  readonly data: any;
}

export interface Reader {
  readonly status: number;
  readonly headers: Headers;
  /** Everything so far, in order. */
  readonly events: readonly StreamEvent[];
  /** How many comments so far. */
  readonly comments: () => number;
  /** Resolves when the server has ended the stream; rejects when it was cut. */
  readonly ended: Promise<void>;
  /** Goes without a word. */
  leave(): void;
}

/** Resolves when the answer has begun. */
export async function readEvents(
  url: string,
  key: string,
  headers: Record<string, string> = {},
): Promise<Reader> {
  const leaving = new AbortController();
  const response = await fetch(url, {
    headers: { authorization: `Bearer ${key}`, accept: 'text/event-stream', ...headers },
    signal: leaving.signal,
  });
  const events: StreamEvent[] = [];
  let comments = 0;
  const read = async () => {
    let text = '';
    const decoder = new TextDecoder();
    for await (const chunk of response.body ?? []) {
      text += decoder.decode(chunk, { stream: true });
      const blocks = text.split('\n\n');
      text = blocks.pop() ?? '';
      for (const block of blocks) {
        if (block.startsWith(':')) comments += 1;
        else events.push(toEvent(block));
      }
    }
    if (text !== '') throw new Error(`The stream ended within an event: ${text}`);
  };
  const ended = read();
  // Whoever does not ask how it ended does not care.
  ended.catch(() => undefined);
  return {
    status: response.status,
    headers: response.headers,
    events,
    comments: () => comments,
    ended,
    leave: () => leaving.abort(),
  };
}

function toEvent(block: string): StreamEvent {
  const fields = Object.fromEntries(
    block.split('\n').map((line) => {
      const colon = line.indexOf(': ');
      return [line.slice(0, colon), line.slice(colon + 2)];
    }),
  );
  return { event: fields.event ?? '', id: fields.id ?? '', data: JSON.parse(fields.data ?? '') };
}
