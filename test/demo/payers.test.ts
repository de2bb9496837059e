import { describe, expect, test } from 'vitest';
import { atChannels, PAYERS_A_SCENE, planPayers, SCENES, scenesOf } from '../../src/demo/payers.ts';
import { closingTable, isClean } from '../../src/demo/report.ts';
import { account, report, right } from './report-support.ts';

/**
 * Tests that the demo plans the same payers for the same seed, and that they cover every scene that the channels
 * support.
 */

describe('the planned payers', () => {
  test('are the same for the same seed, and differ for different seeds', () => {
    expect(planPayers(7, 50)).toEqual(planPayers(7, 50));
    expect(planPayers(8, 50)).not.toEqual(planPayers(7, 50));
  });

  test('include the fixed number of payers of each scene', () => {
    const habits = planPayers(7, 50).map(({ habit }) => habit);
    for (const scene of SCENES)
      expect(habits.filter((habit) => habit === scene)).toHaveLength(PAYERS_A_SCENE);
  });

  test('arrive within 60 s, and each payer has their own order with an amount that the API accepts', () => {
    const payers = planPayers(7, 500);
    expect(new Set(payers.map(({ orderId }) => orderId)).size).toBe(500);
    for (const { amount, arrivesAfterMs, expiresInSeconds } of payers) {
      expect(Number.isInteger(amount) && amount > 0).toBe(true);
      expect(arrivesAfterMs).toBeLessThan(60_000);
      expect(expiresInSeconds).toBeGreaterThanOrEqual(60);
    }
  });
});

describe('the payers at the doubles of channels', () => {
  const both = ['wechatpay', 'alipay'];
  const at = (names: readonly string[]) => atChannels(planPayers(44, 240), names);

  test('pay in CNY, and are divided equally between two channels', () => {
    const payers = at(both);
    expect(new Set(payers.map(({ currency }) => currency))).toEqual(new Set(['CNY']));
    expect(new Set(payers.flatMap(({ channels }) => channels))).toEqual(new Set(both));
    expect(payers.filter(({ channels }) => channels[0] === 'alipay').length).toBeGreaterThan(110);
  });

  test('play every scene, but pay late only at a channel whose payment link still works after a close', () => {
    const payers = at(both);
    expect(scenesOf(payers)).toEqual(new Set(['paidTwice', 'paidLate', 'cancelled']));
    const of = (habit: string) => payers.filter((payer) => payer.habit === habit);
    for (const { channels } of of('pays in two wallets'))
      expect([...channels].sort()).toEqual([...both].sort());
    for (const habit of ['pays when the payment is cancelled', 'pays when it is cancelled'])
      expect(of(habit).map(({ channels }) => channels)).toEqual(Array(PAYERS_A_SCENE).fill(['alipay']));
  });

  test('play only the scenes that a single channel supports, and the report then does not require the other scenes', () => {
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
