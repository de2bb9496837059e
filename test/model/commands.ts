import fc from 'fast-check';
import { AMOUNT, type Case, CHANNELS } from './case.ts';
import { LISTS } from './listed-refunds.ts';
import type { Failing } from './shop.ts';
import type { Call, Loss } from './world.ts';

/**
 * The model's knowledge of the case. It is only used to skip steps that can have no effect. The channel's
 * ledger holds the true state.
 */
export interface Model {
  asked: boolean;
}

type Deed = (order: Case) => Promise<void>;

/** One action of an actor, or several actions at the same moment. */
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

  /** Runs all steps at the same moment. */
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
/** One of these amounts can equal the wrong amount at the channel. See `otherAmount`. */
const changeAmount = fc
  .constantFrom(AMOUNT, AMOUNT + 7, AMOUNT - 1, 2500)
  .map((amount) => new Step(`change amount(${amount})`, (order) => order.changeAmount(amount)));
const repeatCallback = onPayment('repeat callback', (order, n) => order.repeatCallback(n));
const releaseCallbacks = plain('release held callbacks', (order) => order.releaseCallbacks());
const lateRequests = plain('lost requests arrive', (order) => order.lateRequests());
const restartWorkers = plain('restart workers', (order) => order.restartWorkers());
const stopWorkers = plain('stop workers', (order) => order.world.stopWorkers());
const sweep = plain('sweep', (order) => order.world.sweep());
const answers = plain('answers are there', (order) => order.answers());
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

const reverse = onPayment('the bank returns a refund', (order, n) => order.reverse(n));
const needPerson = fc.constant(
  new Step(
    'refunds need a person',
    async ({ world: { network } }) => {
      network.listed.needPerson = true;
    },
    true,
  ),
);

const passOf = (seconds: number) =>
  fc.constant(new Step(`pass(${seconds} s)`, (order) => order.pass(seconds)));

/**
 * Times to skip, in seconds. After the shortest times, the payment is still queried often. The longer times end after
 * the last query, after the expiry, during the late watch, or after the late watch.
 */
const pass = fc
  .constantFrom(1, 5, 12, 30, 120, 600, 1900, 4000, 26_000, 93_600)
  .chain((seconds) => passOf(seconds));

/** The faults of the network between nodrop and its channels. */
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

/** The faults of the connections from nodrop to its own database and to Temporal. */
const loseTransactions = fc
  .array(fc.constantFrom('request lost', 'answer lost'), { minLength: 1, maxLength: 3 })
  .map(
    (losses) =>
      new Step(
        `transactions: ${losses.join(', ')}`,
        async ({ world: { network } }) => void network.ledgerLosses.push(...(losses as 'answer lost'[])),
        true,
      ),
  );
const loseTemporal = fc.constantFrom<Loss>('request lost', 'answer lost', 'slow').map(
  (loss) =>
    new Step(
      `Temporal: ${loss}`,
      async ({ world: { network } }) => {
        network.temporal = loss;
      },
      true,
    ),
);

/** The faults that the simulator itself can produce. */
type Faults = Parameters<Case['world']['simulator']['setFaults']>[0];
const faultOf = (faults: Faults) =>
  new Step(
    `faults ${JSON.stringify(faults)}`,
    async ({ world: { simulator } }) => void (await simulator.setFaults(faults)),
    true,
  );
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
    fc.record({ close: fc.record({ ineffectiveRate: maybe }) }),
    fc.record({ create: fc.record({ timeoutAfterAcceptRate: maybe }) }),
    fc.record({ refund: fc.record({ errorRate: maybe }) }),
    fc.record({ refund: fc.record({ balanceTooLowRate: maybe }) }),
    fc.record({ refund: fc.record({ processingMs: fc.constantFrom(20, 200) }) }),
    fc.record({ down: fc.constant(true) }),
  )
  .map(faultOf);
const noCallbacks = fc.constant(faultOf({ callback: { dropRate: 1 } }));
const strangeCallbacks = fc
  .constantFrom<Faults>(
    { callback: { wrongAmountRate: 1 } },
    { callback: { corruptSignatureRate: 1 } },
    { callback: { duplicates: 2, outOfOrder: true } },
  )
  .map(faultOf);
/**
 * The channel answers queries with an older state of the trade, but uses the current state when it closes the trade.
 */
const lags = fc.constant(faultOf({ callback: { dropRate: 1 }, query: { lagMs: 3_600_000 } }));
/** A payer who is already in the wallet can pay a trade that the channel reports as closed. */
const closesInVain = fc.constant(faultOf({ close: { ineffectiveRate: 1 } }));

/** The shop begins to refuse events, or accepts them again. */
const shopOf = (failing: Failing) =>
  fc.constant(
    new Step(
      `the shop fails at ${failing}`,
      async ({ world: { shop } }) => {
        shop.failing = failing;
      },
      true,
    ),
  );
const shopFails = fc
  .constantFrom<Failing>('nothing', 'everything', 'refunds and conflicts')
  .chain((failing) => shopOf(failing));

const race = fc
  .array(
    fc.oneof(
      { weight: 2, arbitrary: create },
      { weight: 3, arbitrary: pay },
      { weight: 2, arbitrary: hint },
      { weight: 2, arbitrary: queryNow },
      { weight: 2, arbitrary: cancelPayment },
      { weight: 1, arbitrary: cancelOrder },
      { weight: 1, arbitrary: changeAmount },
      { weight: 2, arbitrary: repeatCallback },
      { weight: 1, arbitrary: releaseCallbacks },
      { weight: 1, arbitrary: forge },
      { weight: 2, arbitrary: refund },
      { weight: 1, arbitrary: refundElsewhere },
      { weight: 1, arbitrary: lateRequests },
      { weight: 1, arbitrary: reverse },
    ),
    { minLength: 2, maxLength: 4 },
  )
  .map((steps) => Step.atOnce(steps));

const several = <T>(count: number, arbitrary: T): T[] => Array(count).fill(arbitrary);

/** The first attempt cannot be queried when the second attempt is started. So both attempts can be paid. */
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
const forOtherAmount = fc.constantFrom(...CHANNELS).map(
  (channel) =>
    new Step(
      `create(${channel}) for another amount`,
      async (order) => {
        order.world.network.otherAmount = 7;
        await order.create(channel);
        order.world.network.otherAmount = 0;
      },
      true,
    ),
);
const allPay = fc.constant(
  Step.atOnce([0, 1].map((n) => new Step(`pay(${n}, success)`, (order) => order.pay(n, 'success')))),
);
const firstPays = fc.constant(new Step('pay(0, success)', (order) => order.pay(0, 'success')));
const firstIsDecided = fc.constant(new Step('pay(0, processing)', (order) => order.pay(0, 'processing')));
const firstIsCancelled = fc.constant(new Step('cancel payment(0)', (order) => order.cancelPayment(0)));
const firstEnds = fc.oneof(firstIsCancelled, cancelOrder, passOf(1900), passOf(1900));
/** @param calledBack true if a callback reports the payment; if false, only the late watch detects it */
const lateArrivalOf = (calledBack: boolean) =>
  nth.map((n) => {
    const how = calledBack ? 'no more trouble' : 'no callbacks';
    return new Step(`${how}, lost requests arrive, pay(${n}, success)`, async (order) => {
      if (calledBack) await order.untroubled();
      else await order.world.simulator.setFaults({ callback: { dropRate: 1 } });
      await order.lateRequests();
      await order.pay(n, 'success');
    });
  });
const lateArrival = fc.oneof(lateArrivalOf(true), lateArrivalOf(false));

/**
 * While some money is left to refund, only the out-refund-no prevents a repeated request from making a second
 * refund.
 */
const refundOfPart = fc
  .constantFrom(1, 500)
  .map((amount) => new Step(`refund(0, key a, ${amount})`, (order) => order.refund(0, 'a', amount)));

const refundIsLost = fc.oneof(
  lossOf('refund', 'answer lost'),
  lossOf('refund', 'answer lost'),
  lossOf('refund', 'request lost'),
);

const refundOfAll = fc.constant(
  new Step('refund(0, key a, all)', (order) => order.refund(0, 'a', undefined)),
);

/** The merchant refunds a part directly at the channel while nodrop's refund request is in flight. */
const partElsewhere = fc
  .constantFrom(1, 500)
  .map((amount) =>
    Step.atOnce(
      [0, 1].map(
        (n) =>
          new Step(`refund at the channel(${n}, ${amount})`, (order) => order.refundElsewhere(n, amount)),
      ),
    ),
  );

const allGoesBack = fc.oneof(
  refundOfAll,
  fc.constant(
    new Step('refund at the channel(0, a part), refund(0, key a, all)', async (order) => {
      await order.refundElsewhere(0, 500);
      await order.refund(0, 'a', undefined);
    }),
  ),
);

const opening = (...steps: fc.Arbitrary<Step>[]): fc.Arbitrary<Step[]> => fc.tuple(...steps);

const createListed = fc.constant(new Step(`create(${LISTS})`, (order) => order.create(LISTS), true));

/**
 * The beginning of a case. Most failures need two attempts, a late or lost payment, or money that no callback
 * reports.
 */
export const OPENING: fc.Arbitrary<Step[]> = fc.oneof(
  fc
    .tuple(
      fc.array(fc.oneof(fault, loseCalls, otherAmount, holdCallbacks, loseTransactions, loseTemporal), {
        maxLength: 2,
      }),
      create,
    )
    .map(([trouble, first]) => [...trouble, first]),
  opening(fc.oneof(create, create, forOtherAmount), secondWhileSilent, fc.oneof(allPay, pay)),
  // The payment is late because the create request arrives late or the payer pays late.
  opening(lossOf('create', 'request lost'), create, firstEnds, lateArrival),
  opening(closesInVain, create, firstEnds, passOf(600), fc.oneof(noCallbacks, holdCallbacks), firstPays),
  // The channel reported the trade as closed, and the order's amount was changed. After that, the payer pays
  // the trade anyway.
  opening(
    closesInVain,
    fc.oneof(create, forOtherAmount),
    fc.oneof(firstIsCancelled, changeAmount),
    changeAmount,
    passOf(1),
    fc.oneof(noCallbacks, holdCallbacks, untroubled),
    firstPays,
  ),
  // The trade is paid, or the channel is still deciding about it. nodrop begins to end the payment before the channel
  // reports this.
  opening(create, fc.oneof(noCallbacks, holdCallbacks), fc.oneof(firstPays, firstIsDecided), firstEnds),
  opening(create, lags, firstPays, passOf(10), firstIsCancelled),
  opening(fc.oneof(strangeCallbacks, otherAmount), create, firstPays, fc.oneof(passOf(12), race)),
  // A refund request gets no answer, and is sent again.
  opening(create, allPay, passOf(12), noCallbacks, refundIsLost, refundOfPart, passOf(30)),
  // A refund is refused because others refunded a part. Then the refund is requested again.
  opening(
    ...[create, answers, firstPays, passOf(12), lossOf('refund', 'request lost'), refundOfAll, answers],
    ...[passOf(30), partElsewhere],
  ),
  opening(
    ...[closesInVain, create, answers, cancelOrder, answers, passOf(600)],
    ...[lossOf('refund', 'request lost'), firstPays, passOf(60), sweep, passOf(30), partElsewhere],
  ),
  // A channel that lists refunds forgets the idempotency key of a refund whose request got no answer.
  ...several(
    2,
    opening(
      createListed,
      answers,
      firstPays,
      passOf(12),
      refundIsLost,
      refundOfPart,
      passOf(30),
      passOf(1900),
    ),
  ),
  // At a channel that lists refunds, others refund a part while nodrop's refund request is in flight. After that, the
  // bank may return some of the refunded money.
  opening(
    ...[createListed, answers, firstPays, passOf(12), lossOf('refund', 'request lost'), refundOfAll, answers],
    ...[passOf(30), partElsewhere, fc.oneof(reverse, untroubled), passOf(120)],
  ),
  opening(
    createListed,
    answers,
    firstPays,
    passOf(12),
    fc.oneof(needPerson, untroubled),
    refundOfPart,
    passOf(120),
    reverse,
  ),
  opening(fc.oneof(loseTransactions, loseTemporal), create, pay, passOf(12)),
  opening(create, fc.oneof(loseTransactions, loseTemporal), firstPays, passOf(12)),
  // All money is refunded before the shop has the event about the payment. The events arrive in a random order.
  ...several(
    2,
    opening(
      shopOf('everything'),
      create,
      firstPays,
      passOf(12),
      allGoesBack,
      passOf(120),
      fc.oneof(shopFails, shopOf('refunds and conflicts')),
      passOf(600),
    ),
  ),
);

/** The steps for `fc.commands`. A step that must occur more often is repeated in this list. */
export const STEPS: fc.Arbitrary<Step>[] = [
  ...several(2, create),
  ...[secondWhileSilent, allPay, lateArrival],
  ...several(6, pay),
  ...several(6, pass),
  ...several(5, fault),
  ...several(3, loseCalls),
  ...[loseTransactions, loseTemporal, shopFails],
  ...several(4, race),
  ...several(2, refund),
  ...several(2, cancelPayment),
  ...several(2, changeAmount),
  ...[cancelOrder, hint, queryNow, forge, refundElsewhere, repeatCallback],
  ...[reverse, reverse, needPerson],
  ...[holdCallbacks, releaseCallbacks, lateRequests, otherAmount, untroubled],
  ...[restartWorkers, stopWorkers, sweep],
];
