import { isDeepStrictEqual } from 'node:util';
import {
  CallbackError,
  type ChannelAccount,
  type ChannelAdapter,
  ChannelError,
  type Credentials,
} from '../domain/channel.ts';
import { UnreadableSecret } from '../encryption.ts';

/** Reads the valid credentials of an account. The newest credentials come first. */
export interface CredentialsSource {
  /**
   * Returns credentials that were read at most `maxAgeMs` ago.
   * @default half a minute.
   * @throws UnreadableSecret, or an error of the database
   */
  of(accountId: string, maxAgeMs?: number): Promise<readonly Credentials[]>;
}

/** If the channel rejects the credentials, nodrop reads them again, unless it has read them within this time. */
const READ_AGAIN_MS = 1_000;

/**
 * Wraps an adapter. The wrapped adapter reads the credentials of accounts from the source. If the channel rejects the
 * credentials and newer ones exist, the wrapped adapter repeats the request once with the newer credentials. It does
 * not repeat a create request, because an activity attempt has time for only one. The next attempt uses the newer
 * credentials.
 */
export function withCredentials(adapter: ChannelAdapter, source: CredentialsSource): ChannelAdapter {
  const read = async (account: ChannelAccount, maxAgeMs?: number): Promise<ChannelAccount> => {
    const credentials = await source.of(account.id, maxAgeMs).catch((error: unknown) => {
      if (!(error instanceof UnreadableSecret)) throw error;
      throw new ChannelError('misconfigured', error.message, { cause: error });
    });
    if (credentials.length > 0) return { ...account, credentials };
    throw new ChannelError(
      'misconfigured',
      `Account ${account.id} at ${account.channel} has no credentials: store some with channels rotate.`,
    );
  };

  async function call<Answer>(
    account: ChannelAccount,
    ask: (account: ChannelAccount) => Promise<Answer>,
    retry: 'retry' | 'no retry' = 'retry',
  ): Promise<Answer> {
    if (account.credentials.length > 0) return await ask(account);
    const filled = await read(account);
    try {
      return await ask(filled);
    } catch (error) {
      if (!(error instanceof ChannelError) || error.kind !== 'misconfigured') throw error;
      const current = await read(account, READ_AGAIN_MS);
      if (retry === 'no retry' || isDeepStrictEqual(current.credentials, filled.credentials)) throw error;
      return await ask(current);
    }
  }

  const { findTrade, readTrade } = adapter;
  return {
    ...adapter,
    createTrade: (account, trade, signal) =>
      call(account, (it) => adapter.createTrade(it, trade, signal), 'no retry'),
    ...(findTrade === undefined
      ? {}
      : { findTrade: (account, trade, signal) => call(account, (it) => findTrade(it, trade, signal)) }),
    ...(readTrade === undefined
      ? {}
      : {
          readTrade: (account, reference, signal) => call(account, (it) => readTrade(it, reference, signal)),
        }),
    queryTrade: (account, trade, signal) => call(account, (it) => adapter.queryTrade(it, trade, signal)),
    closeTrade: (account, trade, signal) => call(account, (it) => adapter.closeTrade(it, trade, signal)),
    refundTrade: (account, trade, refund, signal) =>
      call(account, (it) => adapter.refundTrade(it, trade, refund, signal)),
    queryRefund: (account, trade, refund, signal) =>
      call(account, (it) => adapter.queryRefund(it, trade, refund, signal)),
    checkAccount: (account, signal) => call(account, (it) => adapter.checkAccount(it, signal)),
    async verifyCallback(account, request) {
      if (account.credentials.length === 0)
        throw new CallbackError('unverified', 'the account has no credentials');
      return await adapter.verifyCallback(account, request);
    },
  };
}
