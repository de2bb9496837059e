import { expect } from 'vitest';
import { PAYER_FIELDS } from '../../../src/domain/channel.ts';
import { isCurrentCurrency, MAX_AMOUNT } from '../../../src/domain/money.ts';
import { type ContractCase, withinLimits } from './bench.ts';

/**
 * Tests the facts that an adapter declares about its channel. nodrop derives all other properties of the channel from
 * these facts.
 */

const SENTENCE = /^\S.+\.$/s;
const DAY = 86_400_000;

export const declarationCases: readonly ContractCase[] = [
  {
    name: 'the declared name, title and methods can be shown, routed and stored',
    async run({ declaration }) {
      expect(declaration.name).toMatch(/^[a-z][a-z0-9]{0,31}$/);
      for (const title of Object.values(declaration.title)) expect(title.trim()).toMatch(/^.{1,40}$/u);
      const names = declaration.methods.map(({ name }) => name);
      expect(new Set(names).size).toBe(names.length);
      for (const { name, needs, action } of declaration.methods) {
        expect(name).toMatch(/^[a-z][a-z0-9_]{0,31}$/);
        expect(['redirect', 'qr', 'sdk']).toContain(action);
        for (const field of needs) expect(PAYER_FIELDS).toContain(field);
      }
    },
  },
  {
    name: 'the declared currencies are current ISO 4217 codes, and their limits allow some amount',
    async run({ declaration }) {
      for (const { name, currencies } of declaration.methods) {
        if (currencies === 'any') continue;
        expect(Object.keys(currencies), name).not.toEqual([]);
        for (const [code, limits] of Object.entries(currencies)) {
          expect(isCurrentCurrency(code), `${code} of ${name}`).toBe(true);
          const { atLeast = 1, atMost = MAX_AMOUNT, multipleOf = 1 } = limits;
          for (const limit of [atLeast, atMost, multipleOf]) {
            expect(Number.isSafeInteger(limit) && limit >= 1, `${limit} of ${code}`).toBe(true);
          }
          const least = withinLimits(1, limits);
          expect(least >= atLeast && least <= atMost && least % multipleOf === 0, `${code} of ${name}`).toBe(
            true,
          );
        }
      }
    },
  },
  {
    name: 'the declared times, lengths and rates are valid, and their sources are named',
    async run({ declaration }) {
      for (const { expiry, subject } of declaration.methods) {
        expect(expiry.atLeastMs).toBeGreaterThanOrEqual(0);
        expect(expiry.atMostMs ?? Number.POSITIVE_INFINITY).toBeGreaterThanOrEqual(expiry.atLeastMs);
        expect(Number.isInteger(subject.atMost) && subject.atMost > 0).toBe(true);
        expect(['characters', 'utf16', 'bytes']).toContain(subject.countedIn);
      }
      const { rateLimit, querySchedule, repeatableForMs } = declaration;
      expect(rateLimit.perSecond).toBeGreaterThan(0);
      expect(rateLimit.source.trim()).not.toBe('');
      if (querySchedule !== null) {
        expect(querySchedule.source.trim()).not.toBe('');
        expect(querySchedule.waitsMs).not.toEqual([]);
        for (const wait of querySchedule.waitsMs)
          expect(wait >= 1_000 && wait <= DAY, `${wait} ms`).toBe(true);
      }
      for (const horizon of Object.values(repeatableForMs))
        if (horizon !== null) expect(horizon).toBeGreaterThan(0);
    },
  },
  {
    name: 'a channel that may create a second trade under one number has a listing to search',
    async run({ adapter, declaration }) {
      if (declaration.repeatableForMs.create !== null) expect(adapter.findTrade).toBeDefined();
    },
  },
  {
    name: 'an adapter declares how adoptable trades are named exactly if it can read them',
    async run({ adapter, declaration: { adoption } }) {
      expect(adapter.readTrade === undefined).toBe(adoption === undefined);
      if (adoption === undefined) return;
      const { pattern, rule, example } = adoption;
      expect(pattern.flags).not.toMatch(/[gy]/);
      expect(rule).toMatch(/^must /);
      expect(pattern.test(example), example).toBe(true);
      for (const none of ['', 'x'.repeat(201), 'with space', 'x\n'])
        expect(pattern.test(none), none).toBe(false);
    },
  },
  {
    name: "the declared settings are described, and a working account's settings match them",
    async run({ declaration, account, contract }) {
      const { settings } = declaration;
      expect(new Set(settings.map(({ name }) => name)).size).toBe(settings.length);
      for (const { name, description, isSecret, pattern, needs = [] } of settings) {
        expect(name).toMatch(/^[a-z][A-Za-z0-9_]{0,39}$/);
        expect(description, name).toMatch(SENTENCE);
        for (const other of needs) expect(settings.map((one) => one.name)).toContain(other);
        if (pattern === undefined) continue;
        // A regular expression that keeps state between calls would accept only every second value.
        expect(pattern[0].flags, name).not.toMatch(/[gy]/);
        expect(pattern[1], name).toMatch(/^must /);
        expect(pattern[0].test(''), `${name} may be empty`).toBe(false);
        if (isSecret) expect(pattern[1]).not.toMatch(contract.secrets.join('|') || /^$/);
      }
      for (const credentials of account.credentials) {
        for (const { name, isRequired, pattern, needs = [] } of settings) {
          const value = credentials[name];
          if (value === undefined) {
            expect(isRequired, `${name} is required`).toBe(false);
            continue;
          }
          if (pattern !== undefined) expect(pattern[0].test(value), name).toBe(true);
          for (const other of needs) expect(credentials, `${name} needs ${other}`).toHaveProperty(other);
        }
        const unknown = Object.keys(credentials).filter((name) =>
          settings.every((known) => known.name !== name),
        );
        expect(unknown, 'settings that are not declared').toEqual([]);
      }
    },
  },
];
