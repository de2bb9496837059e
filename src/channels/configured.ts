import type { Config } from '../config.ts';
import type { ConfiguredAccount } from '../domain/channel.ts';

/**
 * Returns the channel accounts from the settings. These are the accounts of the simulator channels, which
 * NODROP_SIMULATOR_SECRET and similar settings configure.
 */
export const configuredAccounts = ({ simulator }: Pick<Config, 'simulator'>): readonly ConfiguredAccount[] =>
  Object.entries(simulator.secrets).map(([channel, secret]) => ({ channel, credentials: { secret } }));
