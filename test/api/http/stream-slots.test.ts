import { setMaxListeners } from 'node:events';
import { describe, expect, test } from 'vitest';
import { OPENING_AT_ONCE, type StreamSlot, StreamSlots } from '../../../src/api/http/stream-slots.ts';
import { Refusal } from '../../../src/domain/refusal.ts';
import { NET_MS } from '../../support/progress.ts';

// Who gets a place for an event stream, and when it opens.

const here = new AbortController().signal;
setMaxListeners(0, here);
const refused = (error: unknown) => (error instanceof Refusal ? error.code : String(error));

/** What has become of a request for a place. */
function ask(places: StreamSlots, address: string, gone: AbortSignal = here) {
  const asked: { place?: StreamSlot; refused?: string; settled?: Promise<void> } = {};
  asked.settled = places.enter(address, gone).then(
    (place) => {
      asked.place = place;
    },
    (error: unknown) => {
      asked.refused = refused(error);
    },
  );
  return asked;
}
const turn = () => new Promise((resolve) => setImmediate(resolve));

describe('of the places', () => {
  test('an address has half, and the next one half of what is left', async () => {
    const places = new StreamSlots({ atMost: 8, openWithinMs: NET_MS });
    const open = async (address: string) => {
      const asked = ask(places, address);
      await asked.settled;
      asked.place?.opened();
      return asked;
    };
    const one = [];
    for (let n = 0; n < 5; n += 1) one.push(await open('192.0.2.1'));
    expect(one.map((asked) => asked.refused)).toEqual([...Array(4).fill(undefined), 'too_many_readers']);
    const other = [];
    for (let n = 0; n < 3; n += 1) other.push(await open('192.0.2.2'));
    expect(other.map((asked) => asked.refused)).toEqual([undefined, undefined, 'too_many_readers']);
    expect((await open('192.0.2.3')).refused).toBeUndefined();
    // The first is not given more while others have as few: what it gives back is theirs.
    one[0]?.place?.leave();
    expect((await open('192.0.2.1')).refused).toBe('too_many_readers');
    expect((await open('192.0.2.4')).refused).toBeUndefined();
  });

  test('a merchant has half, from however many addresses', async () => {
    const places = new StreamSlots({ atMost: 8, openWithinMs: NET_MS });
    const taken: StreamSlot[] = [];
    const open = async (n: number, merchant: string) => {
      const place = await places.enter(`192.0.2.${n}`, here);
      place.opened();
      try {
        place.countFor(merchant);
        taken.push(place);
        return 'open';
      } catch (error) {
        place.leave();
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

  test('none stays taken by a reader that has left before its merchant was known', async () => {
    const places = new StreamSlots({ atMost: 2, openWithinMs: NET_MS });
    for (let n = 0; n < 5; n += 1) {
      const place = await places.enter('192.0.2.1', here);
      place.leave();
      place.countFor('one');
    }
  });
});

describe('streams that come at once', () => {
  const half = OPENING_AT_ONCE / 2;

  test('open a few at a time, in the order of coming', async () => {
    const places = new StreamSlots({ atMost: 1_000, openWithinMs: NET_MS });
    const all = Array.from({ length: 100 }, () => ask(places, '192.0.2.1'));
    for (let opened = 0; opened < 100; opened += 1) {
      await turn();
      const open = all.filter(({ place }) => place !== undefined);
      expect(open).toHaveLength(Math.min(100, opened + half));
      expect(open).toEqual(all.slice(0, open.length));
      all[opened]?.place?.opened();
    }
  });

  test('keep no other address waiting', async () => {
    const places = new StreamSlots({ atMost: 1_000, openWithinMs: NET_MS });
    const concurrency = Array.from({ length: 100 }, () => ask(places, '192.0.2.1'));
    const other = ask(places, '192.0.2.2');
    await other.settled;
    expect(other.place).toBeDefined();
    expect(concurrency.filter(({ place }) => place !== undefined)).toHaveLength(half);
  });

  test('give their turn on when they leave, and their place when they leave before it', async () => {
    const places = new StreamSlots({ atMost: 2 * (half + 2), openWithinMs: NET_MS });
    const leaving = new AbortController();
    const opening = Array.from({ length: half }, () => ask(places, '192.0.2.1'));
    const gone = ask(places, '192.0.2.1', leaving.signal);
    const next = ask(places, '192.0.2.1');
    expect(refused(await places.enter('192.0.2.1', here).catch((error: unknown) => error))).toBe(
      'too_many_readers',
    );
    leaving.abort();
    await gone.settled;
    const last = ask(places, '192.0.2.1');
    opening[0]?.place?.leave();
    await next.settled;
    expect(next.place).toBeDefined();
    next.place?.opened();
    await last.settled;
    expect(last.place).toBeDefined();
  });

  test('are refused when their turn does not come in time', async () => {
    const places = new StreamSlots({ atMost: 1_000, openWithinMs: 1 });
    for (let n = 0; n < half; n += 1) await places.enter('192.0.2.1', here);
    const late = ask(places, '192.0.2.1');
    await late.settled;
    expect(late.refused).toBe('too_many_readers');
  });
});
