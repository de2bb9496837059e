import { type CurrencyLimits, type MethodDeclaration, type Payer, takesCurrency } from './channel.ts';

/** Checks an order against the limits in a channel's declaration. All functions in this file are pure. */

/**
 * Returns why the method does not accept an amount in a supported currency, as the end of a sentence. Undefined if the
 * method accepts the amount.
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

/**
 * Checks only that the amount is a multiple of the unit in which the channel counts. It is used for partial refunds,
 * because they have no minimum amount.
 */
export const multipleFault = (
  { multipleOf }: { readonly multipleOf?: number | undefined },
  amount: number,
): string | undefined =>
  multipleOf !== undefined && amount % multipleOf !== 0 ? `must be a multiple of ${multipleOf}` : undefined;

/** The fields of payer data that the method needs and that the request does not contain. */
export const missingOfPayer = (
  { needs }: Pick<MethodDeclaration, 'needs'>,
  payer: Payer | null | undefined,
): string[] => needs.filter((field) => payer?.[field] === undefined).map((field) => `payer.${field}`);

/** True if this payer can pay this amount with the method. */
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
 * Cuts a subject to the length that the channel accepts. It cuts between graphemes, so that a letter keeps its accents.
 * It cuts between code points only if the first grapheme alone is too long.
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
