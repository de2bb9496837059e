import type { SceneName } from './accounts.ts';
import { seeded } from './random.ts';

/**
 * The habits of payers who pay twice, or who pay after nodrop has closed the payment. These payers keep a payment page
 * open.
 */
export const SCENES = ['pays in two wallets', 'pays when it is closed', 'pays when it is cancelled'] as const;
/** Number of payers in each scene. */
export const PAYERS_A_SCENE = 4;

/** Default number of payers. */
export const PAYERS = 240;

/**
 * What a payer does in the wallet. A payer who `pays at the last moment` pays about a second before the payment
 * expires.
 */
export type Habit =
  | (typeof SCENES)[number]
  | 'pays when the payment is cancelled'
  | 'pays'
  | 'pays at the last moment'
  | 'is declined'
  | 'never pays';

export interface Payer {
  readonly orderId: string;
  /**
   * The channel where the payer pays, and an optional second channel. A payer with a second channel pays again there.
   */
  readonly channels: readonly [string, ...string[]];
  /** Minor units. */
  readonly amount: number;
  readonly currency: string;
  /** When the payer presses the pay button, counted from the start of the run. */
  readonly arrivesAfterMs: number;
  /** How long the payer sees the pay page before pressing the wallet's button. */
  readonly thinksMs: number;
  readonly habit: Habit;
  /** True if the payer's shop sends two identical requests at the same time. */
  readonly pressesTwice: boolean;
  /**
   * Time from the payment in the wallet to the payer's return to the shop. A payer who does not pay also returns after
   * this time. Null if the payer never returns.
   */
  readonly returnsAfterMs: number | null;
  readonly expiresInSeconds: number;
}

const SPREAD_MS = 48_000;
const USUAL_EXPIRY_S = 1_800;
/** The shortest expiry that live mode allows. With this expiry, payments expire during the demo. */
const SHORT_EXPIRY_S = 60;
/**
 * The period in which payments with the short expiry begin. They begin early, so that they do not make the run longer.
 */
const SHORT_SPREAD_MS = 28_000;
/**
 * The period in which the payers who pay after the expiry arrive. These payers arrive earlier than the other payers.
 */
const LATE_SPREAD_MS = 8_000;

/** Plans the payers of a run in the order of their arrival. The same seed gives the same payers. */
export function planPayers(seed: number, count: number): readonly Payer[] {
  const random = seeded(seed);
  const between = (from: number, to: number) => Math.floor(from + random() * (to - from));
  const payers = Array.from({ length: count }, (_, index): Payer => {
    const habit = SCENES[Math.floor(index / PAYERS_A_SCENE)] ?? habitFor(random());
    const isLate = habit === 'pays when it is closed';
    const isShort = isLate || habit === 'never pays' || habit === 'pays at the last moment';
    const yen = random() < 0.1;
    return {
      orderId: `demo-${String(index + 1).padStart(4, '0')}`,
      channels: ['simulator', 'simulator2'],
      amount: yen ? between(100, 20_000) : between(100, 200_000),
      currency: yen ? 'JPY' : 'CNY',
      arrivesAfterMs: between(0, isLate ? LATE_SPREAD_MS : isShort ? SHORT_SPREAD_MS : SPREAD_MS),
      thinksMs: between(800, 15_000),
      habit,
      pressesTwice: random() < 0.1,
      returnsAfterMs: random() < 0.2 ? between(300, 2_500) : null,
      expiresInSeconds: isShort ? SHORT_EXPIRY_S : USUAL_EXPIRY_S,
    };
  });
  return payers.sort((a, b) => a.arrivesAfterMs - b.arrivesAfterMs);
}

function habitFor(draw: number): Habit {
  if (draw < 0.05) return 'never pays';
  if (draw < 0.08) return 'is declined';
  if (draw < 0.11) return 'pays at the last moment';
  return 'pays';
}

const SCENE_OF: Readonly<Partial<Record<Habit, SceneName>>> = {
  'pays in two wallets': 'paidTwice',
  'pays when it is closed': 'paidLate',
  'pays when the payment is cancelled': 'paidLate',
  'pays when it is cancelled': 'cancelled',
};

/**
 * Channels where a payment link can still be paid after nodrop has closed the payment. These channels do not know the
 * trade until the payer opens the link.
 */
const LINK_OUTLIVES_CLOSE = ['alipay'];

/** The scenes that these payers cause, for example that an order is paid twice. */
export function scenesOf(payers: readonly Payer[]): ReadonlySet<SceneName> {
  return new Set(payers.flatMap(({ habit }) => SCENE_OF[habit] ?? []));
}

/**
 * Distributes the payers over the other channels in turn, all in CNY. A payer whose habit these channels cannot
 * reproduce pays as usual. Two things exist only at the simulator: a close without effect, and a declined payment that
 * is final.
 */
export function atChannels(payers: readonly Payer[], names: readonly string[]): readonly Payer[] {
  const [late] = LINK_OUTLIVES_CLOSE.filter((name) => names.includes(name));
  return payers.map((payer, index): Payer => {
    const own = names[index % names.length] ?? '';
    const other = names[(index + 1) % names.length];
    const at = (name: string | undefined, changes: Partial<Payer>): Payer => ({
      ...payer,
      currency: 'CNY',
      ...(name === undefined
        ? { channels: [own], habit: 'pays' as const }
        : { channels: [name], ...changes }),
    });
    switch (payer.habit) {
      case 'pays in two wallets':
        return at(other === own ? undefined : own, {
          channels: [own, ...(other === undefined ? [] : [other])],
        });
      case 'pays when it is closed':
        return at(late, { habit: 'pays when the payment is cancelled', expiresInSeconds: USUAL_EXPIRY_S });
      case 'pays when it is cancelled':
        return at(late, {});
      case 'is declined':
        // On these channels, a declined payment stays open until its expiry. So its expiry must be short.
        return at(own, {
          expiresInSeconds: SHORT_EXPIRY_S,
          arrivesAfterMs: Math.floor((payer.arrivesAfterMs * SHORT_SPREAD_MS) / SPREAD_MS),
        });
      default:
        return at(own, {});
    }
  });
}
