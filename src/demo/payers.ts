import type { SceneName } from './accounts.ts';
import { seeded } from './random.ts';

/** Payers whose money an order may not be able to take: each keeps a page open that nodrop has closed at the channel. */
export const SCENES = ['pays in two wallets', 'pays when it is closed', 'pays when it is cancelled'] as const;
/** So many payers of each scene. */
export const PAYERS_A_SCENE = 4;

/** How many payers come. */
export const PAYERS = 240;

/** What a payer does in the wallet; `pays at the last moment` is a second before the payment expires. */
export type Habit =
  | (typeof SCENES)[number]
  | 'pays when the payment is cancelled'
  | 'pays'
  | 'pays at the last moment'
  | 'is declined'
  | 'never pays';

export interface Payer {
  readonly orderId: string;
  /** Where the payer pays, and where a second time. */
  readonly channels: readonly [string, ...string[]];
  /** Minor units. */
  readonly amount: number;
  readonly currency: string;
  /** When the payer presses pay, counted from the first one. */
  readonly arrivesAfterMs: number;
  /** Between the pay page and the wallet's button. */
  readonly thinksMs: number;
  readonly habit: Habit;
  /** Two identical requests at once. */
  readonly pressesTwice: boolean;
  /** How long after the wallet (or instead of it) the payer is back at the shop; null: closes the phone. */
  readonly returnsAfterMs: number | null;
  readonly expiresInSeconds: number;
}

const SPREAD_MS = 48_000;
const USUAL_EXPIRY_S = 1_800;
/** The shortest of live mode, so that the demo sees payments expire. */
const SHORT_EXPIRY_S = 60;
/** Payments that are to expire begin early, so that nobody waits for their end alone. */
const SHORT_SPREAD_MS = 28_000;
/** Whoever pays after that end comes earlier still. */
const LATE_SPREAD_MS = 8_000;

/** The payers of a run, the same ones for the same seed, in the order in which they come. */
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

/** Channels whose link can still be paid once nodrop has closed the payment, as the channel has not heard of it before. */
const LINK_OUTLIVES_CLOSE = ['alipay'];

/** Which scenes these payers play. */
export function scenesOf(payers: readonly Payer[]): ReadonlySet<SceneName> {
  return new Set(payers.flatMap(({ habit }) => SCENE_OF[habit] ?? []));
}

/**
 * The same payers at other channels, in turn, all of them in CNY. What the channels cannot play is paid as usual: the
 * simulator alone can close a trade without effect, and decline a payer for good.
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
        // Neither channel ends what was declined: that ends with its time.
        return at(own, {
          expiresInSeconds: SHORT_EXPIRY_S,
          arrivesAfterMs: Math.floor((payer.arrivesAfterMs * SHORT_SPREAD_MS) / SPREAD_MS),
        });
      default:
        return at(own, {});
    }
  });
}
