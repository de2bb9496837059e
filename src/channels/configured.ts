import type { Config } from '../config.ts';
import type { ConfiguredAccount } from '../domain/channel.ts';

/**
 * Returns the channel accounts that settings define. Only simulator channels have such accounts
 * (NODROP_SIMULATOR_SECRET and similar settings).
 */
export const configuredAccounts = ({ simulator }: Pick<Config, 'simulator'>): readonly ConfiguredAccount[] =>
  Object.entries(simulator.secrets).map(([channel, secret]) => ({ channel, credentials: { secret } }));
