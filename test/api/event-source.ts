/** A client for Server-Sent Events, for the tests. It follows the standard. */

export interface StreamEvent {
  readonly event: string;
  readonly id: string;
  // biome-ignore lint/suspicious/noExplicitAny: tests read fields of any answer.
  readonly data: any;
}

export interface Reader {
  readonly status: number;
  readonly headers: Headers;
  /** All events that the client has received, in order of arrival. */
  readonly events: readonly StreamEvent[];
  /** The number of comments that the client has received. */
  readonly comments: () => number;
  /** Resolves when the server ends the stream. Rejects when the connection breaks. */
  readonly ended: Promise<void>;
  /** Closes the connection. */
  leave(): void;
}

/** Resolves when the response headers have arrived. */
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
    if (text !== '') throw new Error(`The stream ended in the middle of an event: ${text}`);
  };
  const ended = read();
  // A test that does not await `ended` does not depend on how the stream ended, so a rejection is ignored.
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
