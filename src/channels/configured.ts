import type { Config } from '../config.ts';
import type { ConfiguredAccount } from '../domain/channel.ts';

/**
 * The accounts that the settings configure. These are the accounts of the simulator channels, from
 * NODROP_SIMULATOR_SECRET and similar settings.
 */
export const configuredAccounts = ({ simulator }: Pick<Config, 'simulator'>): readonly ConfiguredAccount[] =>
  Object.entries(simulator.secrets).map(([channel, secret]) => ({ channel, credentials: { secret } }));
