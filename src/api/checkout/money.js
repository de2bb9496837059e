import { EXPONENTS } from './currencies.js';

/**
 * Formats an amount as `CNY 1,234.50`, in the same format as `amountText` of the domain. The decimal places are those
 * of ISO 4217, because browsers show fewer for some currencies. The function works on text, because the division of a
 * large amount would lose precision.
 * @param {number} amount minor units
 * @param {string} currency
 */
export function formatAmount(amount, currency) {
  const places = EXPONENTS[currency] ?? 2;
  const digits = String(amount).padStart(places + 1, '0');
  const whole = digits.slice(0, digits.length - places).replace(/\B(?=(\d{3})+$)/g, ',');
  return `${currency} ${places === 0 ? whole : `${whole}.${digits.slice(-places)}`}`;
}

/** Formats a duration as minutes and seconds, for example `9:05`. @param {number} ms */
export function formatTimeLeft(ms) {
  const seconds = Math.max(Math.ceil(ms / 1000), 0);
  const pad = (/** @type {number} */ part) => String(part).padStart(2, '0');
  const [hours, minutes] = [Math.floor(seconds / 3600), Math.floor(seconds / 60) % 60];
  return hours > 0 ? `${hours}:${pad(minutes)}:${pad(seconds % 60)}` : `${minutes}:${pad(seconds % 60)}`;
}
