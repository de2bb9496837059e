import type { Config } from '../config.ts';
import type { ConfiguredAccount } from '../domain/channel.ts';

/** The accounts that the settings describe: those of the simulator, by NODROP_SIMULATOR_SECRET and its like. */
export const configuredAccounts = ({ simulator }: Pick<Config, 'simulator'>): readonly ConfiguredAccount[] =>
  Object.entries(simulator.secrets).map(([channel, secret]) => ({ channel, credentials: { secret } }));
