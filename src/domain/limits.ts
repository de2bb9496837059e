import { type CurrencyLimits, type MethodDeclaration, type Payer, takesCurrency } from './channel.ts';

/** What a channel takes of an order, from its declaration. Pure. */

/**
 * What is wrong with an amount at a method that takes its currency, as the end of a sentence; undefined when nothing is.
 * @param amount minor units
 */
export function amountFault(
  { currencies }: Pick<MethodDeclaration, 'currencies'>,
  currency: string,
  amount: number,
): string | undefined {
  const limits: CurrencyLimits | undefined = currencies === 'any' ? undefined : currencies[currency];
  const { atLeast, atMost, multipleOf } = limits ?? {};
  if (atLeast !== undefined && amount < atLeast) return `must be at least ${atLeast}`;
  if (atMost !== undefined && amount > atMost) return `must be at most ${atMost}`;
  return multipleFault({ multipleOf }, amount);
}

/** The same of the steps in which the channel counts alone, as of a part that goes back. */
export const multipleFault = (
  { multipleOf }: { readonly multipleOf?: number | undefined },
  amount: number,
): string | undefined =>
  multipleOf !== undefined && amount % multipleOf !== 0 ? `must be a multiple of ${multipleOf}` : undefined;

/** What the method needs to know of the payer and is not told, by the names of the request's fields. */
export const missingOfPayer = (
  { needs }: Pick<MethodDeclaration, 'needs'>,
  payer: Payer | null | undefined,
): string[] => needs.filter((field) => payer?.[field] === undefined).map((field) => `payer.${field}`);

/** Whether a payment of this amount by this payer can be made with the method. */
export const canPay = (
  method: MethodDeclaration,
  { currency, amount }: { readonly currency: string; readonly amount: number },
  payer: Payer | null | undefined,
): boolean =>
  takesCurrency(method, currency) &&
  amountFault(method, currency, amount) === undefined &&
  missingOfPayer(method, payer).length === 0;

const graphemes = new Intl.Segmenter('en', { granularity: 'grapheme' });
const utf8 = new TextEncoder();

const LENGTH: Readonly<Record<MethodDeclaration['subject']['countedIn'], (text: string) => number>> = {
  characters: (text) => [...text].length,
  utf16: (text) => text.length,
  bytes: (text) => utf8.encode(text).length,
};

/**
 * As much of a subject as the channel takes. Nothing that is read as one character is split, such as a letter with its
 * accents; only when the first is too long by itself, it is cut between code points.
 */
export function cutSubject(subject: string, { atMost, countedIn }: MethodDeclaration['subject']): string {
  const length = LENGTH[countedIn];
  if (length(subject) <= atMost) return subject;
  const fitting = (parts: Iterable<string>): string => {
    let cut = '';
    let left = atMost;
    for (const part of parts) {
      left -= length(part);
      if (left < 0) break;
      cut += part;
    }
    return cut;
  };
  return fitting(Array.from(graphemes.segment(subject), ({ segment }) => segment)) || fitting(subject);
}
