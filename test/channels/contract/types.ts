import type {
  Acknowledgement,
  CallbackRequest,
  ChannelAccount,
  ChannelAdapter,
  Trade,
} from '../../../src/domain/channel.ts';
import type { Answer, Sent } from './http.ts';

/** What a channel provides so that the contract suite can test it. */

/** An account of the channel, and the adapter that uses it. */
export interface Party {
  readonly adapter: ChannelAdapter;
  readonly account: ChannelAccount;
}

/** What the suite provides to a channel that starts. */
export interface Place {
  /** Starts a proxy in front of the channel. @returns the address that the adapter must call */
  proxyTo(channelUrl: string): Promise<string>;
  /** Where the channel must send callbacks if it accepts no address with a trade. */
  readonly callbacksTo: string;
}

/** Starts a new, empty channel. */
export type SetUp = (place: Place) => Promise<Contract>;

export interface Contract {
  readonly ours: Party;
  /** Another account of the same channel, with its own credentials. */
  readonly theirs: Party;
  /** An account whose credentials the channel rejects. */
  readonly wrong: Party;
  readonly channel: ContractChannel;
  readonly protocol: Protocol;
  /** The secret texts, which no message may contain. */
  readonly secrets: readonly string[];
  close(): Promise<void> | void;
}

/** The actual state at the channel, read without an adapter. */
export interface Books {
  /** How many trades exist with this number. */
  readonly trades: number;
  /** The amount that the payer must pay, in whole units of the currency: `10.50`. */
  readonly asked: string;
  readonly currency: string;
  /** The amount that was refunded to the payer or is on its way, in whole units. */
  readonly refunded: string;
}

/**
 * The other side of the channel: the payer and the merchant's dashboard. If an action is absent here, it cannot happen
 * at this channel.
 */
export interface ContractChannel {
  books(trade: Trade): Promise<Books>;
  /** @returns false if the channel does not (or no longer) let the payer pay */
  pay(trade: Trade): Promise<boolean>;
  /** The payer opens the page, at a channel where that creates the trade. */
  open?(trade: Trade): Promise<void>;
  decline?(trade: Trade): Promise<void>;
  /** The payer has acted, and the channel decides later: by `pay` or `decline`. */
  startProcessing?(trade: Trade): Promise<void>;
  /** The merchant closes the trade in the dashboard. */
  close?(trade: Trade): Promise<void>;
  /** The merchant refunds this amount in the dashboard, in minor units. */
  refund?(trade: Trade, amount: number): Promise<void>;
  /** Completes the refunds, which stay in process until then. */
  finishRefunds?(): Promise<void>;
  /**
   * Sets the result of the refunds that are requested from now on; `good` by default. @returns false for a result that
   * never occurs at this channel
   */
  refundsBecome?(outcome: 'good' | 'needs_person' | 'ask_again' | 'failed'): boolean;
  /** The bank returns the money of a refund that had succeeded. */
  reverse?(trade: Trade, outRefundNo: string): Promise<void>;
  /** Opens another dispute about the whole amount, or decides the open dispute. */
  dispute?(trade: Trade, state: 'open' | 'won' | 'lost'): Promise<void>;
  /** The first state of a dispute: `lost` if the money is taken immediately. @default open */
  readonly disputesBegin?: 'open' | 'lost';
  /** Advances only the channel's clock. */
  advance?(ms: number): Promise<void> | void;
  /** The channel sends a callback that is not about our trades. */
  sendUnrelated?(): Promise<void>;
}

/** The calls of an adapter that send requests to the channel. */
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

/** How the channel writes the messages that the suite invents in its name. */
export interface Protocol {
  /** A refusal with this code. */
  refusal(status: number, code: string): Answer;
  /** The codes that have a meaning for the adapter, by call. No other code may be definite. */
  readonly listedCodes: Partial<Readonly<Record<Call, readonly string[]>>>;
  /** The refusals (status and code) after which nothing was or will be created. Each must be `rejected`. */
  readonly definite: {
    readonly [K in 'createTrade' | 'refundTrade']?: readonly (readonly [number, string])[];
  };
  /** True if the status alone has a meaning, like 204 for a close. If absent, no status alone has a meaning. */
  readonly statusSaysAll?: (call: Call, status: number) => boolean;
  /** How the channel asks for a later retry. @default 429 with `Retry-After` */
  readonly rateLimit?: (seconds: number) => Answer;
  /** False if the channel does not say when to retry. @default true */
  readonly tellsDelay?: boolean;
  /** Signs an answer so that the adapter accepts it, at a channel that signs its answers. */
  readonly dress?: (answer: Answer, request: Sent) => Answer;
  /** The content of a request without time, nonce and signature. @default method, path and body */
  readonly terms?: (request: Sent) => unknown;
  /** True for a create that only signs a link, and so sends no request that could fail. */
  readonly createsWithoutRequest?: boolean;
  /** The page size of the channel's listing. */
  readonly pageSize?: number;
  readonly callbacks: CallbackProtocol;
}

export interface CallbackProtocol {
  /** Absent if nothing proves a callback, so that a callback is only a notice. */
  readonly signed?: {
    /** Signs a callback for our account with this body and this time. */
    sign(rawBody: Buffer, at: Date): CallbackRequest | Promise<CallbackRequest>;
    /** The allowed time difference in both directions, ms; null if a callback has no time. */
    readonly toleranceMs: number | null;
  };
  /** True if the channel accepts this answer as an acknowledgement. */
  isAcknowledged(answer: Acknowledgement): boolean;
  /** True for a channel that, in a test, repeats a refused callback immediately. */
  readonly sendsAgain: boolean;
}
