import { type ChannelAdapter, ChannelError, type Payer } from '../domain/channel.ts';

/**
 * Wraps an adapter so that payer data (id, IP address) is removed from its errors and from the reasons in its answers.
 * A channel may include payer data in these texts, and nodrop stores the texts in the ledger, in workflow histories and
 * in logs.
 */
export function withoutPayer(adapter: ChannelAdapter, payer: Payer): ChannelAdapter {
  const quoted = patternOf(payer);
  if (quoted === undefined) return adapter;
  const call = async <T>(answer: Promise<T>): Promise<T> =>
    await answer.catch((error: unknown) => {
      throw cutError(error, quoted);
    });
  const ask = async <T>(answer: Promise<T>): Promise<T> => cutReasons(await call(answer), quoted);
  const { findTrade } = adapter;
  return {
    ...adapter,
    createTrade: (...given) => call(adapter.createTrade(...given)),
    ...(findTrade === undefined ? {} : { findTrade: (...given) => call(findTrade(...given)) }),
    queryTrade: (...given) => ask(adapter.queryTrade(...given)),
    closeTrade: (...given) => ask(adapter.closeTrade(...given)),
    refundTrade: (...given) => ask(adapter.refundTrade(...given)),
    queryRefund: (...given) => ask(adapter.queryRefund(...given)),
  };
}

/** Matches the payer's data as plain text, URL-encoded, or escaped in JSON. Undefined if no payer data is known. */
function patternOf(payer: Payer): RegExp | undefined {
  const values = [payer.id, payer.ip].flatMap((value) => value || []);
  // The pattern lists the longest value first, because one value may begin with another.
  const patterns = values
    .sort((a, b) => b.length - a.length)
    .map((value) => [...value].map(formsOf).join(''));
  return patterns.length === 0 ? undefined : new RegExp(patterns.join('|'), 'gi');
}

/** Returns a pattern that matches the character itself, its URL-encoded form or its JSON escape. */
function formsOf(character: string): string {
  const bytes = [...Buffer.from(character)].map((byte) => `%${hex(byte, 2)}`).join('');
  const units = Array.from({ length: character.length }, (_, i) => hex(character.charCodeAt(i), 4));
  const escaped = units.map((unit) => `\\\\u${unit}`).join('');
  const itself = units.map((unit) => `\\u${unit}`).join('');
  return `(?:${itself}|${bytes}|${escaped}|${character === ' ' ? '\\+' : `\\\\${itself}`})`;
}

const hex = (value: number, length: number): string => value.toString(16).padStart(length, '0');

const cut = (text: string, quoted: RegExp): string => text.replace(quoted, '[payer]');

/** Returns the error with payer data removed from its message and from the messages of its causes. */
function cutError(error: unknown, quoted: RegExp): unknown {
  if (!(error instanceof Error)) return error;
  const message = cut(error.message, quoted);
  const cause = cutError(error.cause, quoted);
  if (message === error.message && cause === error.cause) return error;
  const options = cause === undefined ? {} : { cause };
  if (!(error instanceof ChannelError)) return new Error(message, options);
  const { kind, retryAfterMs, isReplayed } = error;
  return new ChannelError(kind, message, {
    ...options,
    isReplayed,
    ...(retryAfterMs === undefined ? {} : { retryAfterMs }),
  });
}

/** Removes payer data from the `reason` texts of an answer. All other fields have a fixed form, without free text. */
function cutReasons<T>(answer: T, quoted: RegExp): T {
  if (Array.isArray(answer)) return answer.map((one) => cutReasons(one, quoted)) as T;
  if (typeof answer !== 'object' || answer === null) return answer;
  return Object.fromEntries(
    Object.entries(answer).map(([name, value]) => [
      name,
      name === 'reason' && typeof value === 'string' ? cut(value, quoted) : cutReasons(value, quoted),
    ]),
  ) as T;
}
