// The demo's table is evidence only if a bug would show in it: each kind of offence is put into the books here.
import { describe, expect, test } from 'vitest';
import { atChannels, PAYERS_A_SCENE, planPayers, SCENES, scenesOf } from '../../src/demo/payers.ts';
import { closingTable, isClean } from '../../src/demo/report.ts';
import { account, report, right } from './report-support.ts';

/** Who comes to the demo: the same payers for the same seed, of every scene that a channel can have. */

describe('the payers', () => {
  test('are the same for the same seed, and others for another', () => {
    expect(planPayers(7, 50)).toEqual(planPayers(7, 50));
    expect(planPayers(8, 50)).not.toEqual(planPayers(7, 50));
  });

  test('of every scene are there', () => {
    const habits = planPayers(7, 50).map(({ habit }) => habit);
    for (const scene of SCENES)
      expect(habits.filter((habit) => habit === scene)).toHaveLength(PAYERS_A_SCENE);
  });

  test('come in time, with orders of their own and amounts that the API takes', () => {
    const payers = planPayers(7, 500);
    expect(new Set(payers.map(({ orderId }) => orderId)).size).toBe(500);
    for (const { amount, arrivesAfterMs, expiresInSeconds } of payers) {
      expect(Number.isInteger(amount) && amount > 0).toBe(true);
      expect(arrivesAfterMs).toBeLessThan(60_000);
      expect(expiresInSeconds).toBeGreaterThanOrEqual(60);
    }
  });
});

describe('the payers of the doubles', () => {
  const both = ['wechatpay', 'alipay'];
  const at = (names: readonly string[]) => atChannels(planPayers(44, 240), names);

  test('pay in CNY at these channels, about as many at each', () => {
    const payers = at(both);
    expect(new Set(payers.map(({ currency }) => currency))).toEqual(new Set(['CNY']));
    expect(new Set(payers.flatMap(({ channels }) => channels))).toEqual(new Set(both));
    expect(payers.filter(({ channels }) => channels[0] === 'alipay').length).toBeGreaterThan(110);
  });

  test('play every scene, the late ones where a link outlives the close', () => {
    const payers = at(both);
    expect(scenesOf(payers)).toEqual(new Set(['paidTwice', 'paidLate', 'cancelled']));
    const of = (habit: string) => payers.filter((payer) => payer.habit === habit);
    for (const { channels } of of('pays in two wallets'))
      expect([...channels].sort()).toEqual([...both].sort());
    for (const habit of ['pays when the payment is cancelled', 'pays when it is cancelled'])
      expect(of(habit).map(({ channels }) => channels)).toEqual(Array(PAYERS_A_SCENE).fill(['alipay']));
  });

  test('of one channel play what it can, and a run of that is no failure', () => {
    expect(scenesOf(at(['alipay']))).toEqual(new Set(['paidLate', 'cancelled']));
    expect(scenesOf(at(['wechatpay']))).toEqual(new Set());
    expect(at(['wechatpay']).filter(({ habit }) => habit.startsWith('pays when'))).toEqual([]);
    const accounts = account({
      ...right,
      trades: right.trades.slice(0, 3),
      orders: right.orders.slice(0, 3),
      refunds: new Map(),
    });
    const wrong = report(accounts);
    expect(isClean(wrong)).toBe(false);
    const of = report(accounts, { scenes: scenesOf(at(['wechatpay'])) });
    expect(isClean(of)).toBe(true);
    expect(closingTable(of)).not.toContain('paid in two wallets');
  });
});
