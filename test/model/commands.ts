import fc from 'fast-check';
import { AMOUNT, type Case, CHANNELS } from './case.ts';
import type { Call, Loss } from './world.ts';

/** What the model knows: enough to leave out what cannot do anything. The truth is the channel's ledger. */
export interface Model {
  asked: boolean;
}

type Deed = (order: Case) => Promise<void>;

/** One thing, or several at once, that somebody does. */
export class Step implements fc.AsyncCommand<Model, Case, true> {
  readonly name: string;
  readonly #deed: Deed;
  readonly #asks: boolean;

  constructor(name: string, deed: Deed, asks = false) {
    this.name = name;
    this.#deed = deed;
    this.#asks = asks;
  }

  async check({ asked }: Readonly<Model>): Promise<boolean> {
    return asked || this.#asks;
  }

  async run(model: Model, order: Case): Promise<void> {
    model.asked ||= this.#asks;
    await this.#deed(order);
  }

  toString(): string {
    return this.name;
  }

  /** All of them at the same moment. */
  static atOnce(steps: readonly Step[]): Step {
    const name = `at once [${steps.map(String).join(' | ')}]`;
    const deed: Deed = async (order) => void (await Promise.all(steps.map((step) => step.#deed(order))));
    return new Step(
      name,
      deed,
      steps.some((step) => step.#asks),
    );
  }
}

const nth = fc.nat({ max: 2 });
const part = fc.constantFrom(1, 500, 1000, AMOUNT);
const maybe = fc.constantFrom(0.5, 1);

const create = fc
  .tuple(fc.constantFrom(...CHANNELS), fc.option(fc.constantFrom('a', 'b'), { nil: undefined, freq: 3 }))
  .map(([channel, key]) => {
    const name = `create(${channel}${key === undefined ? '' : `, key ${key}`})`;
    return new Step(name, (order) => order.create(channel, key), true);
  });
const pay = fc
  .tuple(nth, fc.constantFrom('success', 'success', 'success', 'declined', 'processing'))
  .map(([n, result]) => new Step(`pay(${n}, ${result})`, (order) => order.pay(n, result as 'success')));
const onPayment = (name: string, deed: (order: Case, n: number) => Promise<void>) =>
  nth.map((n) => new Step(`${name}(${n})`, (order) => deed(order, n)));
const plain = (name: string, deed: Deed) => fc.constant(new Step(name, deed));

const hint = onPayment('hint', (order, n) => order.hint(n));
const queryNow = onPayment('query now', (order, n) => order.queryNow(n));
const cancelPayment = onPayment('cancel payment', (order, n) => order.cancelPayment(n));
const cancelOrder = plain('cancel order', (order) => order.cancelOrder());
const repeatCallback = onPayment('repeat callback', (order, n) => order.repeatCallback(n));
const releaseCallbacks = plain('release held callbacks', (order) => order.releaseCallbacks());
const lateRequests = plain('lost requests arrive', (order) => order.lateRequests());
const restartWorkers = plain('restart workers', (order) => order.restartWorkers());
const stopWorkers = plain('stop workers', (order) => order.world.stopWorkers());
const sweep = plain('sweep', (order) => order.world.sweep());
const untroubled = plain('no more trouble', (order) => order.untroubled());

const forge = fc
  .tuple(nth, fc.constantFrom('a stranger', 'another channel'), fc.constantFrom(AMOUNT, 1))
  .map(
    ([n, by, amount]) =>
      new Step(`forge(${n}, ${by}, ${amount})`, (order) => order.forge(n, by as 'a stranger', amount)),
  );
const refund = fc
  .tuple(nth, fc.constantFrom('a', 'b', 'c'), fc.option(part, { nil: undefined }))
  .map(
    ([n, key, amount]) =>
      new Step(`refund(${n}, key ${key}, ${amount ?? 'all'})`, (order) => order.refund(n, key, amount)),
  );
const refundElsewhere = fc
  .tuple(nth, part)
  .map(
    ([n, amount]) =>
      new Step(`refund at the channel(${n}, ${amount})`, (order) => order.refundElsewhere(n, amount)),
  );

const passOf = (seconds: number) =>
  fc.constant(new Step(`pass(${seconds} s)`, (order) => order.pass(seconds)));

/** Seconds: within the tight phase, past polls, past the expiry, into the late watch and past it. */
const pass = fc
  .constantFrom(1, 5, 12, 30, 120, 600, 1900, 4000, 26_000, 93_600)
  .chain((seconds) => passOf(seconds));

/** The network between nodrop and its channels. */
const lossOf = (call: Call, loss: Loss) =>
  fc.constant(
    new Step(
      `${call}: ${loss}`,
      async ({ world: { network } }) => {
        network.losses[call] = loss;
      },
      true,
    ),
  );
const loseCalls = fc
  .tuple(
    fc.constantFrom<Call>('create', 'query', 'close', 'refund', 'queryRefund'),
    fc.constantFrom<Loss>('request lost', 'answer lost', 'slow'),
  )
  .chain(([call, loss]) => lossOf(call, loss));
const otherAmount = fc.constantFrom(-1, 7).map(
  (by) =>
    new Step(
      `the channel takes ${by} more`,
      async ({ world: { network } }) => {
        network.otherAmount = by;
      },
      true,
    ),
);
const holdCallbacks = fc.constant(
  new Step(
    'hold callbacks',
    async ({ world: { network } }) => {
      network.holding = true;
    },
    true,
  ),
);

/** The simulator's own faults. */
const fault = fc
  .oneof(
    fc.record({ callback: fc.record({ dropRate: maybe }) }),
    fc.record({ callback: fc.record({ duplicates: fc.integer({ min: 1, max: 3 }) }) }),
    fc.record({ callback: fc.record({ delayMs: fc.constantFrom(20, 100) }) }),
    fc.record({ callback: fc.record({ corruptSignatureRate: maybe }) }),
    fc.record({ callback: fc.record({ wrongAmountRate: maybe }) }),
    fc.record({ callback: fc.record({ outOfOrder: fc.constant(true) }) }),
    fc.record({ create: fc.record({ errorRate: maybe }) }),
    fc.record({ query: fc.record({ errorRate: maybe }) }),
    fc.record({ query: fc.record({ garbageRate: maybe }) }),
    fc.record({ query: fc.record({ lagMs: fc.constantFrom(50, 3_600_000) }) }),
    fc.record({ close: fc.record({ errorRate: maybe }) }),
    fc.record({ refund: fc.record({ errorRate: maybe }) }),
    fc.record({ refund: fc.record({ processingMs: fc.constantFrom(20, 200) }) }),
    fc.record({ down: fc.constant(true) }),
  )
  .map(
    (faults) =>
      new Step(
        `faults ${JSON.stringify(faults)}`,
        async ({ world: { simulator } }) => void (await simulator.setFaults(faults)),
        true,
      ),
  );

const race = fc
  .array(
    fc.oneof(
      { weight: 2, arbitrary: create },
      { weight: 3, arbitrary: pay },
      { weight: 2, arbitrary: hint },
      { weight: 2, arbitrary: queryNow },
      { weight: 2, arbitrary: cancelPayment },
      { weight: 1, arbitrary: cancelOrder },
      { weight: 2, arbitrary: repeatCallback },
      { weight: 1, arbitrary: releaseCallbacks },
      { weight: 1, arbitrary: forge },
      { weight: 2, arbitrary: refund },
      { weight: 1, arbitrary: refundElsewhere },
      { weight: 1, arbitrary: lateRequests },
    ),
    { minLength: 2, maxLength: 4 },
  )
  .map((steps) => Step.atOnce(steps));

const several = <T>(count: number, arbitrary: T): T[] => Array(count).fill(arbitrary);

/** A new attempt while nobody can ask about the one before: both can be paid. */
const secondWhileSilent = fc.constantFrom(...CHANNELS).map(
  (channel) =>
    new Step(
      `create(${channel}) while the others are silent`,
      async (order) => {
        const { network } = order.world;
        const before = network.losses.query;
        network.losses.query = 'request lost';
        await order.create(channel);
        network.losses.query = before;
      },
      true,
    ),
);
const allPay = fc.constant(
  Step.atOnce([0, 1].map((n) => new Step(`pay(${n}, success)`, (order) => order.pay(n, 'success')))),
);
const lateArrival = nth.map(
  (n) =>
    new Step(`no more trouble, lost requests arrive, pay(${n}, success)`, async (order) => {
      await order.untroubled();
      await order.lateRequests();
      await order.pay(n, 'success');
    }),
);

/** With money left over, only the number keeps a refund that is asked for again from being made again. */
const refundOfPart = fc
  .constantFrom(1, 500)
  .map((amount) => new Step(`refund(0, key a, ${amount})`, (order) => order.refund(0, 'a', amount)));

/** How a case begins: most of what can go wrong needs two attempts, a lost one, or money. */
export const OPENING: fc.Arbitrary<Step[]> = fc.oneof(
  fc
    .tuple(fc.array(fc.oneof(fault, loseCalls, otherAmount, holdCallbacks), { maxLength: 2 }), create)
    .map(([trouble, first]) => [...trouble, first]),
  fc
    .tuple(create, secondWhileSilent, fc.oneof(allPay, pay))
    .map(([first, second, paid]) => [first, second, paid]),
  fc
    .tuple(lossOf('create', 'request lost'), create, fc.oneof(passOf(1900), cancelPayment), lateArrival)
    .map((steps) => [...steps]),
  fc
    .tuple(fc.oneof(holdCallbacks, fault, otherAmount), create, pay, lossOf('refund', 'answer lost'))
    .map((steps) => [...steps]),
  fc
    .tuple(create, allPay, passOf(12), lossOf('refund', 'answer lost'), refundOfPart, passOf(30))
    .map((steps) => [...steps]),
);

/** As `fc.commands` takes them, each as often as it is likely. */
export const STEPS: fc.Arbitrary<Step>[] = [
  ...several(2, create),
  ...[secondWhileSilent, allPay, lateArrival],
  ...several(6, pay),
  ...several(6, pass),
  ...several(5, fault),
  ...several(3, loseCalls),
  ...several(4, race),
  ...several(2, refund),
  ...several(2, cancelPayment),
  ...[cancelOrder, hint, queryNow, forge, refundElsewhere, repeatCallback],
  ...[holdCallbacks, releaseCallbacks, lateRequests, otherAmount, untroubled],
  ...[restartWorkers, stopWorkers, sweep],
];
