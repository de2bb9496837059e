import { setMaxListeners } from 'node:events';
import { describe, expect, test } from 'vitest';
import { OPENING_AT_ONCE, type StreamSlot, StreamSlots } from '../../../src/api/http/stream-slots.ts';
import { Refusal } from '../../../src/domain/refusal.ts';
import { NET_MS } from '../../support/progress.ts';

// Tests which requests for an event stream get a slot, and when their streams open.

const here = new AbortController().signal;
setMaxListeners(0, here);
const refused = (error: unknown) => (error instanceof Refusal ? error.code : String(error));

/** Requests a slot for a stream, and records the outcome. */
function ask(slots: StreamSlots, address: string, gone: AbortSignal = here) {
  const asked: { slot?: StreamSlot; refused?: string; settled?: Promise<void> } = {};
  asked.settled = slots.enter(address, gone).then(
    (slot) => {
      asked.slot = slot;
    },
    (error: unknown) => {
      asked.refused = refused(error);
    },
  );
  return asked;
}
const nextTick = () => new Promise((resolve) => setImmediate(resolve));

describe('the slots for event streams', () => {
  test('one address gets half of the slots, and the next address gets half of the slots that are left', async () => {
    const slots = new StreamSlots({ atMost: 8, openWithinMs: NET_MS });
    const open = async (address: string) => {
      const asked = ask(slots, address);
      await asked.settled;
      asked.slot?.opened();
      return asked;
    };
    const one = [];
    for (let n = 0; n < 5; n += 1) one.push(await open('192.0.2.1'));
    expect(one.map((asked) => asked.refused)).toEqual([...Array(4).fill(undefined), 'too_many_readers']);
    const other = [];
    for (let n = 0; n < 3; n += 1) other.push(await open('192.0.2.2'));
    expect(other.map((asked) => asked.refused)).toEqual([undefined, undefined, 'too_many_readers']);
    expect((await open('192.0.2.3')).refused).toBeUndefined();
    // The first address holds the most slots. If it releases a slot, it cannot get the slot again, but another address
    // can.
    one[0]?.slot?.leave();
    expect((await open('192.0.2.1')).refused).toBe('too_many_readers');
    expect((await open('192.0.2.4')).refused).toBeUndefined();
  });

  test('one merchant gets at most half of the slots, even if its readers have many addresses', async () => {
    const slots = new StreamSlots({ atMost: 8, openWithinMs: NET_MS });
    const taken: StreamSlot[] = [];
    const open = async (n: number, merchant: string) => {
      const slot = await slots.enter(`192.0.2.${n}`, here);
      slot.opened();
      try {
        slot.countFor(merchant);
        taken.push(slot);
        return 'open';
      } catch (error) {
        slot.leave();
        return refused(error);
      }
    };
    const one = [];
    for (let n = 0; n < 5; n += 1) one.push(await open(n, 'one'));
    expect(one).toEqual([...Array(4).fill('open'), 'too_many_readers']);
    expect(await open(9, 'other')).toBe('open');
    taken[0]?.leave();
    expect(await open(9, 'one')).toBe('open');
  });

  test('a reader that leaves before its merchant is known releases its slot', async () => {
    const slots = new StreamSlots({ atMost: 2, openWithinMs: NET_MS });
    for (let n = 0; n < 5; n += 1) {
      const slot = await slots.enter('192.0.2.1', here);
      slot.leave();
      slot.countFor('one');
    }
  });
});

describe('many event streams that are requested at the same time', () => {
  const half = OPENING_AT_ONCE / 2;

  test('are opened a few at a time, in the order of their requests', async () => {
    const slots = new StreamSlots({ atMost: 1_000, openWithinMs: NET_MS });
    const all = Array.from({ length: 100 }, () => ask(slots, '192.0.2.1'));
    for (let opened = 0; opened < 100; opened += 1) {
      await nextTick();
      const open = all.filter(({ slot }) => slot !== undefined);
      expect(open).toHaveLength(Math.min(100, opened + half));
      expect(open).toEqual(all.slice(0, open.length));
      all[opened]?.slot?.opened();
    }
  });

  test('do not delay the streams of another address', async () => {
    const slots = new StreamSlots({ atMost: 1_000, openWithinMs: NET_MS });
    const sameAddress = Array.from({ length: 100 }, () => ask(slots, '192.0.2.1'));
    const other = ask(slots, '192.0.2.2');
    await other.settled;
    expect(other.slot).toBeDefined();
    expect(sameAddress.filter(({ slot }) => slot !== undefined)).toHaveLength(half);
  });

  test('if a reader leaves before its stream is open, its place in the queue becomes free', async () => {
    const slots = new StreamSlots({ atMost: 2 * (half + 2), openWithinMs: NET_MS });
    const leaving = new AbortController();
    const opening = Array.from({ length: half }, () => ask(slots, '192.0.2.1'));
    const gone = ask(slots, '192.0.2.1', leaving.signal);
    const next = ask(slots, '192.0.2.1');
    expect(refused(await slots.enter('192.0.2.1', here).catch((error: unknown) => error))).toBe(
      'too_many_readers',
    );
    leaving.abort();
    await gone.settled;
    const last = ask(slots, '192.0.2.1');
    opening[0]?.slot?.leave();
    await next.settled;
    expect(next.slot).toBeDefined();
    next.slot?.opened();
    await last.settled;
    expect(last.slot).toBeDefined();
  });

  test('are refused if they cannot be opened in time', async () => {
    const slots = new StreamSlots({ atMost: 1_000, openWithinMs: 1 });
    for (let n = 0; n < half; n += 1) await slots.enter('192.0.2.1', here);
    const late = ask(slots, '192.0.2.1');
    await late.settled;
    expect(late.refused).toBe('too_many_readers');
  });
});
