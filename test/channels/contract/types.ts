import type {
  Acknowledgement,
  CallbackRequest,
  ChannelAccount,
  ChannelAdapter,
  Trade,
} from '../../../src/domain/channel.ts';
import type { Answer, Sent } from './http.ts';

/** What a channel brings along to be tested by the contract suite. */

/** An account of the channel, and the adapter that asks for it. */
export interface Party {
  readonly adapter: ChannelAdapter;
  readonly account: ChannelAccount;
}

/** What the suite offers a channel that starts. */
export interface Place {
  /** Starts a proxy in front of the channel. @returns the address that the adapter is to call */
  proxyTo(channelUrl: string): Promise<string>;
  /** Where the channel is to send callbacks when it takes no address with a trade. */
  readonly callbacksTo: string;
}

/** Starts the channel, new and empty. */
export type SetUp = (place: Place) => Promise<Contract>;

export interface Contract {
  readonly ours: Party;
  /** Another account of the same channel, with credentials of its own. */
  readonly theirs: Party;
  /** An account whose credentials the channel does not take. */
  readonly wrong: Party;
  readonly channel: ContractChannel;
  readonly protocol: Protocol;
  /** What must stand in no message. */
  readonly secrets: readonly string[];
  close(): Promise<void> | void;
}

/** What really is at the channel, which no adapter is asked for. */
export interface Books {
  /** How many trades of this number were made. */
  readonly trades: number;
  /** What the payer is asked for, in whole units of the currency: `10.50`. */
  readonly asked: string;
  readonly currency: string;
  /** What went back to the payer, or is on its way, in whole units. */
  readonly refunded: string;
}

/** The other side of the channel: the payer's, and the merchant's dashboard. What is absent cannot happen there. */
export interface ContractChannel {
  books(trade: Trade): Promise<Books>;
  /** @returns false when the channel does not let them pay (any more) */
  pay(trade: Trade): Promise<boolean>;
  /** The payer opens the page, where that makes the trade. */
  open?(trade: Trade): Promise<void>;
  decline?(trade: Trade): Promise<void>;
  /** The payer has acted, and the channel decides later: by `pay` or `decline`. */
  startProcessing?(trade: Trade): Promise<void>;
  /** Somebody closes the trade at the channel. */
  close?(trade: Trade): Promise<void>;
  /** Somebody gives money back at the channel, in minor units. */
  refund?(trade: Trade, amount: number): Promise<void>;
  /** Refunds stay in process until then. */
  finishRefunds?(): Promise<void>;
  /** What becomes of the refunds asked for from now on; `good` until it is set. @returns false for what never happens there */
  refundsBecome?(outcome: 'good' | 'needs_person' | 'ask_again' | 'failed'): boolean;
  /** The bank returns the money of a refund that had succeeded. */
  reverse?(trade: Trade, outRefundNo: string): Promise<void>;
  /** Opens a dispute, another one each time, about everything; or decides the one that is open. */
  dispute?(trade: Trade, state: 'open' | 'won' | 'lost'): Promise<void>;
  /** What a dispute is at first, where the money is taken at once. @default open */
  readonly disputesBegin?: 'open' | 'lost';
  /** Lets time pass at the channel alone. */
  advance?(ms: number): Promise<void> | void;
  /** The channel sends something that is nothing of ours. */
  sendUnrelated?(): Promise<void>;
}

/** The calls of an adapter that ask the channel. */
export const CALLS = [
  'createTrade',
  'findTrade',
  'queryTrade',
  'closeTrade',
  'refundTrade',
  'queryRefund',
  'checkAccount',
] as const;
export type Call = (typeof CALLS)[number];

/** How the channel writes what the suite makes up in its name. */
export interface Protocol {
  /** A refusal with this code. */
  refusal(status: number, code: string): Answer;
  /** The codes to which the adapter gives a meaning, by call. No other may be definite. */
  readonly listedCodes: Partial<Readonly<Record<Call, readonly string[]>>>;
  /** The refusals after which nothing was made and nothing will be: each is `rejected`. Status and code. */
  readonly definite: {
    readonly [K in 'createTrade' | 'refundTrade']?: readonly (readonly [number, string])[];
  };
  /** True when the status alone means something, as 204 does to a close. Absent: none does. */
  readonly statusSaysAll?: (call: Call, status: number) => boolean;
  /** How it tells to come again later. @default 429 with `Retry-After` */
  readonly rateLimit?: (seconds: number) => Answer;
  /** False where it does not say when. @default true */
  readonly tellsDelay?: boolean;
  /** Makes an answer one that the adapter believes, where answers are signed. */
  readonly dress?: (answer: Answer, request: Sent) => Answer;
  /** What a request asks for, without what proves it (time, nonce, signature). @default method, path and body */
  readonly terms?: (request: Sent) => unknown;
  /** True for a create that only signs a link: no request is sent, so none can fail. */
  readonly createsWithoutRequest?: boolean;
  /** How many trades a page of its listing has. */
  readonly pageSize?: number;
  readonly callbacks: CallbackProtocol;
}

export interface CallbackProtocol {
  /** Absent when nothing proves a callback: then it is a notice and no more. */
  readonly signed?: {
    /** A callback of our account with this body, as of this time. */
    sign(rawBody: Buffer, at: Date): CallbackRequest | Promise<CallbackRequest>;
    /** How far the time may be off in both directions, ms; null when a callback tells no time. */
    readonly toleranceMs: number | null;
  };
  /** True when the channel takes this for an acknowledgement. */
  isAcknowledged(answer: Acknowledgement): boolean;
  /** True for a channel that sends a refused callback again at once, in a test. */
  readonly sendsAgain: boolean;
}
