import { EXPONENTS } from './currencies.js';

/**
 * An amount as nodrop writes it everywhere, `CNY 1,234.50`: the same as `amountText` of the domain. Decimal places are
 * ISO 4217's: browsers have fewer for some currencies. As text: a large amount is no exact number once it is divided.
 * @param {number} amount minor units
 * @param {string} currency
 */
export function formatAmount(amount, currency) {
  const places = EXPONENTS[currency] ?? 2;
  const digits = String(amount).padStart(places + 1, '0');
  const whole = digits.slice(0, digits.length - places).replace(/\B(?=(\d{3})+$)/g, ',');
  return `${currency} ${places === 0 ? whole : `${whole}.${digits.slice(-places)}`}`;
}

/** `9:05`. @param {number} ms */
export function formatTimeLeft(ms) {
  const seconds = Math.max(Math.ceil(ms / 1000), 0);
  const pad = (/** @type {number} */ part) => String(part).padStart(2, '0');
  const [hours, minutes] = [Math.floor(seconds / 3600), Math.floor(seconds / 60) % 60];
  return hours > 0 ? `${hours}:${pad(minutes)}:${pad(seconds % 60)}` : `${minutes}:${pad(seconds % 60)}`;
}
