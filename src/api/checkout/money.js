import { EXPONENTS } from './currencies.js';

/**
 * An amount as people of that language write it. Decimal places are ISO 4217's: browsers have fewer for some currencies.
 * @param {number} amount minor units
 * @param {string} currency
 * @param {string} language
 */
export function formatAmount(amount, currency, language) {
  const places = EXPONENTS[currency] ?? 2;
  const digits = String(amount).padStart(places + 1, '0');
  const decimal = places === 0 ? digits : `${digits.slice(0, -places)}.${digits.slice(-places)}`;
  const format = new Intl.NumberFormat(language, {
    style: 'currency',
    currency,
    minimumFractionDigits: places,
    maximumFractionDigits: places,
  });
  // As text: a large amount is no exact number any more once it is divided.
  return format.format(/** @type {any} */ (decimal));
}

/** `9:05`. @param {number} ms */
export function formatTimeLeft(ms) {
  const seconds = Math.max(Math.ceil(ms / 1000), 0);
  const pad = (/** @type {number} */ part) => String(part).padStart(2, '0');
  const [hours, minutes] = [Math.floor(seconds / 3600), Math.floor(seconds / 60) % 60];
  return hours > 0 ? `${hours}:${pad(minutes)}:${pad(seconds % 60)}` : `${minutes}:${pad(seconds % 60)}`;
}
