import { createSimulatorAdapter as createAdapter } from '../../src/channels/simulator/adapter.ts';
import { withCredentials } from '../../src/channels/with-credentials.ts';
import type { ChannelAdapter } from '../../src/domain/channel.ts';

/** The simulator's adapter for tests that store no credentials. Every account has this secret. */
export function createSimulatorAdapter({
  name,
  baseUrl,
  secret,
  fetch,
}: {
  readonly name: 'simulator' | 'simulator2';
  readonly baseUrl: string;
  readonly secret: string;
  readonly fetch?: typeof globalThis.fetch;
}): ChannelAdapter {
  const options = { name, url: baseUrl, ...(fetch === undefined ? {} : { fetch }) };
  const credentials = [{ secret }];
  const adapter = withCredentials(createAdapter(options), { of: async () => credentials });
  return {
    ...adapter,
    verifyCallback: (account, request) => adapter.verifyCallback({ ...account, credentials }, request),
  };
}
