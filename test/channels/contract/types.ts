import type {
  Acknowledgement,
  CallbackRequest,
  ChannelAccount,
  ChannelAdapter,
  Trade,
} from '../../../src/domain/channel.ts';
import type { Answer, Sent } from './http.ts';

/** The types that a channel implements so that the contract suite can test its adapter. */

/** An account at the channel, and the adapter that uses it. */
export interface Party {
  readonly adapter: ChannelAdapter;
  readonly account: ChannelAccount;
}

/** The addresses that a channel gets from the suite when the suite starts it. */
export interface Place {
  /** Starts a proxy in front of the channel. @returns the address that the adapter must call */
  proxyTo(channelUrl: string): Promise<string>;
  /** The URL to which the channel must send callbacks if it does not accept a callback URL with a trade. */
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
  /** Secret texts of the account. No message may contain them. */
  readonly secrets: readonly string[];
  close(): Promise<void> | void;
}

/** The actual state at the channel. It is read without using the adapter. */
export interface Books {
  /** How many trades at the channel have this trade number, which the merchant chose. */
  readonly trades: number;
  /** The amount that the payer must pay, in whole units of the currency: `10.50`. */
  readonly asked: string;
  readonly currency: string;
  /** The amount that was refunded to the payer or is on its way to the payer, in whole units. */
  readonly refunded: string;
}

/**
 * Actions of the payer, and of the merchant in the channel's dashboard. An absent action cannot happen at this channel.
 */
export interface ContractChannel {
  books(trade: Trade): Promise<Books>;
  /** @returns false if the channel never lets the payer pay, or no longer lets the payer pay */
  pay(trade: Trade): Promise<boolean>;
  /** Opens the payment page as the payer does. Only for a channel that creates the trade at that moment. */
  open?(trade: Trade): Promise<void>;
  decline?(trade: Trade): Promise<void>;
  /** Leaves the trade in process after the payer has acted. The result comes later, by `pay` or `decline`. */
  startProcessing?(trade: Trade): Promise<void>;
  /** Closes the trade as the merchant does in the dashboard. */
  close?(trade: Trade): Promise<void>;
  /** Refunds this amount as the merchant does in the dashboard, in minor units. */
  refund?(trade: Trade, amount: number): Promise<void>;
  /** Completes the refunds. Until then the refunds stay in process. */
  finishRefunds?(): Promise<void>;
  /**
   * Sets the result of all refunds that are requested from now on. The default is `good`.
   * @returns false for a result that never occurs at this channel
   */
  refundsBecome?(outcome: 'good' | 'needs_person' | 'ask_again' | 'failed'): boolean;
  /** Makes a succeeded refund fail, as if the bank returned its money. */
  reverse?(trade: Trade, outRefundNo: string): Promise<void>;
  /** Opens another dispute about the whole amount, or decides the open dispute. */
  dispute?(trade: Trade, state: 'open' | 'won' | 'lost'): Promise<void>;
  /**
   * The first state of a dispute. It is `lost` if the channel takes the money immediately.
   * @default open
   */
  readonly disputesBegin?: 'open' | 'lost';
  /** Advances the channel's clock and no other clock. */
  advance?(ms: number): Promise<void> | void;
  /** Makes the channel send a callback that is not about nodrop's trades. */
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

/** The format of the channel's messages. The suite uses it to create messages in the channel's name. */
export interface Protocol {
  /** Returns a refusal with this code in the format of the channel. */
  refusal(status: number, code: string): Answer;
  /**
   * For each call, the codes that have a meaning for the adapter. The adapter must not treat another code as definite.
   */
  readonly listedCodes: Partial<Readonly<Record<Call, readonly string[]>>>;
  /**
   * Refusals (status and code) that are definite: the channel has not created anything and never will. The adapter
   * must report each as `rejected`.
   */
  readonly definite: {
    readonly [K in 'createTrade' | 'refundTrade']?: readonly (readonly [number, string])[];
  };
  /**
   * True if this status alone has a meaning, for example 204 for a close. If the function is absent, no status alone
   * has a meaning.
   */
  readonly statusSaysAll?: (call: Call, status: number) => boolean;
  /**
   * The answer with which the channel asks the adapter to retry later.
   * @default 429 with `Retry-After`
   */
  readonly rateLimit?: (seconds: number) => Answer;
  /**
   * False if the channel does not say when the adapter may retry.
   * @default true
   */
  readonly tellsDelay?: boolean;
  /** Signs an answer so that the adapter accepts it. Only for a channel that signs its answers. */
  readonly dress?: (answer: Answer, request: Sent) => Answer;
  /**
   * Returns the content of a request without time, nonce and signature.
   * @default method, path and body
   */
  readonly terms?: (request: Sent) => unknown;
  /** True if the adapter creates a trade by signing a link, without a request that could fail. */
  readonly createsWithoutRequest?: boolean;
  /** The number of entries on a page of the channel's listing. */
  readonly pageSize?: number;
  readonly callbacks: CallbackProtocol;
}

export interface CallbackProtocol {
  /** The proof of callbacks. If it is absent, nothing proves a callback, and each callback is only a notice. */
  readonly signed?: {
    /** Signs a callback for nodrop's account with this body and this time. */
    sign(rawBody: Buffer, at: Date): CallbackRequest | Promise<CallbackRequest>;
    /**
     * The largest allowed difference between the time of a callback and the present time, in both directions, in ms.
     * Null if a callback has no time.
     */
    readonly toleranceMs: number | null;
  };
  /** True if the channel accepts this answer as an acknowledgement of a callback. */
  isAcknowledged(answer: Acknowledgement): boolean;
  /** True if the channel, as it runs in the tests, repeats a refused callback immediately. */
  readonly sendsAgain: boolean;
}
