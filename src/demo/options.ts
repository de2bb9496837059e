import { Command, InvalidArgumentError } from 'commander';
import { PAYERS } from './payers.ts';

/** The channels that have a double. A double is a process with its own books that implements the channel's protocol. */
export const DOUBLES = ['alipay', 'wechatpay'] as const;
export type DoubledChannel = (typeof DOUBLES)[number];

export interface DemoOptions {
  /** The channels at whose doubles the payers pay. If the option is absent, payers pay at the simulator. */
  readonly channels?: readonly DoubledChannel[];
  readonly payers: number;
}

const PAYERS_AT_LEAST = 20;
const PAYERS_AT_MOST = 1_000;

const isDoubled = (name: string): name is DoubledChannel => DOUBLES.some((one) => one === name);

function channelsOf(value: string): readonly DoubledChannel[] {
  const names = value.split(',').map((name) => name.trim());
  const given: DoubledChannel[] = [];
  for (const name of names) {
    if (name.startsWith('simulator')) {
      throw new InvalidArgumentError(
        `The simulator cannot be combined with doubles: leave out --channels to use it, or name ${DOUBLES.join(', ')}.`,
      );
    }
    if (!isDoubled(name)) {
      throw new InvalidArgumentError(
        `There is no double of "${name}". Use ${DOUBLES.join(', ')}, separated by commas.`,
      );
    }
    if (given.includes(name)) throw new InvalidArgumentError(`${name} is named twice.`);
    given.push(name);
  }
  return given;
}

function payersOf(value: string): number {
  const count = Number(value);
  if (!/^\d{1,4}$/.test(value) || count < PAYERS_AT_LEAST || count > PAYERS_AT_MOST)
    throw new InvalidArgumentError(`Use ${PAYERS_AT_LEAST} to ${PAYERS_AT_MOST}.`);
  return count;
}

/** Reads the options of `npm run demo -- ...`. For a wrong option, commander prints a sentence and ends the process. */
export function readOptions(args: readonly string[], program = new Command('npm run demo --')): DemoOptions {
  return program
    .description(
      'Sends a batch of payments through the whole stack while faults are injected, and prints a table.',
    )
    .option(
      '--channels <names>',
      `pay at doubles of these channels (${DOUBLES.join(', ')}) instead of the simulator`,
      channelsOf,
    )
    .option(
      '--payers <number>',
      `number of payers: ${PAYERS_AT_LEAST} to ${PAYERS_AT_MOST}`,
      payersOf,
      PAYERS,
    )
    .allowExcessArguments(false)
    .parse(args, { from: 'user' })
    .opts<DemoOptions>();
}
