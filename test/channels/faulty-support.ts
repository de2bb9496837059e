import { expect } from 'vitest';
import {
  type CallbackRequest,
  type ChannelAdapter,
  type ChannelDeclaration,
  ChannelError,
  type ChannelErrorKind,
  type MethodDeclaration,
  type Trade,
} from '../../src/domain/channel.ts';
import { CALLS, type Contract, type Place } from './contract/types.ts';
import { contractCases, runCase } from './contract.ts';
import { createBankAdapter, startBank } from './fakes/bank.ts';
import { type FakeOptions, signature } from './fakes/http.ts';
import { createKeyedAdapter, startKeyed } from './fakes/keyed.ts';
import { createLateAdapter, startLate } from './fakes/late.ts';
import { createLinksAdapter, startLinks } from './fakes/links.ts';
import { createNoticesAdapter, startNotices } from './fakes/notices.ts';

/**
 * Faulty adapters for the tests of the contract suite. Each is a correct adapter with one fault that a real adapter
 * could have.
 */

export type Make = (options: FakeOptions) => ChannelAdapter;
export type Faulty = (adapter: ChannelAdapter, options: FakeOptions) => Partial<ChannelAdapter>;

export const FAKES = {
  keyed: [startKeyed, createKeyedAdapter],
  notices: [startNotices, createNoticesAdapter],
  links: [startLinks, createLinksAdapter],
  late: [startLate, createLateAdapter],
  bank: [startBank, createBankAdapter],
} satisfies Record<string, [(place: Place, wrap: Make) => Promise<Contract>, Make]>;

export type Calls =
  | 'createTrade'
  | 'queryTrade'
  | 'closeTrade'
  | 'refundTrade'
  | 'queryRefund'
  | 'verifyCallback';

/** Replaces one function of an adapter. */
export const instead =
  <Name extends Calls>(
    name: Name,
    change: (right: ChannelAdapter[Name], ...args: Parameters<ChannelAdapter[Name]>) => Promise<unknown>,
  ): Faulty =>
  (adapter) => ({
    [name]: (...args: Parameters<ChannelAdapter[Name]>) => change(adapter[name], ...args),
  });

/** In every call of the adapter, changes the errors of this kind. */
export const asKind =
  (from: ChannelErrorKind, change: (error: ChannelError, credentials: string) => ChannelError): Faulty =>
  (adapter) =>
    Object.fromEntries(
      CALLS.flatMap((name) => {
        const right = adapter[name] as ((...args: never[]) => Promise<unknown>) | undefined;
        if (right === undefined) return [];
        const call = async (...args: never[]) => {
          try {
            return await right(...args);
          } catch (error) {
            if (!(error instanceof ChannelError) || error.kind !== from) throw error;
            throw change(error, JSON.stringify(args[0]));
          }
        };
        return [[name, call]];
      }),
    );

export const adoptable = ({ declaration }: ChannelAdapter) => ({
  declaration: {
    ...declaration,
    adoption: { pattern: /^\w{1,64}$/, rule: 'must be a number', example: 'SHOP1' },
  },
});

/** A trade with this number and without a reference, for a channel that is queried only by the number. */
export const named = (outTradeNo: string): Trade => ({
  ...{ outTradeNo, method: 'page', amount: 1, currency: 'CNY', reference: null },
  ...{ createdAt: new Date().toISOString(), expiresAt: new Date().toISOString() },
});

/** Makes the adapter report one state in place of another state. */
export const asState = (name: Calls, from: string, to: object): Faulty =>
  instead(name, async (right, ...args) => {
    const answer = (await (right as (...given: unknown[]) => Promise<{ state: string }>)(...args)) as {
      state: string;
    };
    return answer.state === from ? { ...answer, ...to } : answer;
  });

/** Makes the adapter return an answer in place of an error of this kind. */
export const answering = (name: Calls, kind: ChannelErrorKind, answer: object): Faulty =>
  instead(name, async (right, ...args) => {
    try {
      return await (right as (...given: unknown[]) => Promise<unknown>)(...args);
    } catch (error) {
      if (error instanceof ChannelError && error.kind === kind) return answer;
      throw error;
    }
  });

/** Changes the requests of an adapter before they are sent. */
export const sending =
  (make: Make, change: (init: RequestInit) => RequestInit): Faulty =>
  (_adapter, options) =>
    make({ ...options, fetch: (url, init) => fetch(url, change(init ?? {})) });

export const withHeader = (init: RequestInit, name: string, value: string): RequestInit => {
  const headers = new Headers(init.headers);
  if (headers.has(name)) headers.set(name, value);
  return { ...init, headers };
};

export const declaring =
  (change: Partial<ChannelDeclaration>): Faulty =>
  ({ declaration }) => ({ declaration: { ...declaration, ...change } });
export const declaringMethod =
  (change: Partial<MethodDeclaration>): Faulty =>
  ({ declaration }) => {
    const [first, ...rest] = declaration.methods;
    return { declaration: { ...declaration, methods: [{ ...first, ...change }, ...rest] } };
  };

export const signedBy = (request: CallbackRequest, secret: string, at = new Date()): CallbackRequest => ({
  ...request,
  headers: { ...request.headers, 'keyed-signature': signature(secret, request.rawBody, at) },
});

export const PAID = {
  state: 'paid',
  channelPaymentId: 'p',
  amount: 1050,
  currency: 'EUR',
  paidAt: '2026-01-01T00:00:00Z',
};
export const DAY = 86_400_000;

export interface Fault {
  readonly fault: string;
  readonly fake: keyof typeof FAKES;
  readonly faulty: Faulty;
  /** The beginning of the name of the case that detects the fault, and the message with which the case fails. */
  readonly found: string;
  readonly says: RegExp;
}

/** Expects that the case for this fault fails. */
export async function expectFound({ fake, faulty, found, says }: Fault): Promise<void> {
  const [start, make] = FAKES[fake];
  const wrap: Make = (options) => {
    const adapter = make(options);
    return { ...adapter, ...faulty(adapter, options) };
  };
  const cases = contractCases.filter(({ name }) => name.startsWith(found));
  expect(cases).toHaveLength(1);
  for (const one of cases) await expect(runCase(one, (place) => start(place, wrap))).rejects.toThrow(says);
}
