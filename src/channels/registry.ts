import type { Config } from '../config.ts';
import type { ChannelAdapter } from '../domain/channel.ts';
import { createSimulatorAdapter } from './simulator/adapter.ts';

/** The channels this deployment offers, by name. A channel without credentials is not among them. */
export function createChannels(config: Config): ReadonlyMap<string, ChannelAdapter> {
  const adapters = (['simulator', 'simulator2'] as const).flatMap((name) => {
    const secret = config.simulator.secrets[name];
    return secret === undefined
      ? []
      : [createSimulatorAdapter({ name, baseUrl: config.simulator.url, secret })];
  });
  return new Map(adapters.map((adapter) => [adapter.name, adapter]));
}
