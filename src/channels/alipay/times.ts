import { ChannelError } from '../../domain/channel.ts';

/**
 * Alipay writes times as `yyyy-MM-dd HH:mm:ss` in Beijing time, which is 8 h ahead of UTC all year
 * (`timestamp` of https://opendocs.alipay.com/common/02kf5q). The time zone of the process has no effect.
 */

const AHEAD_MS = 8 * 3_600_000;
const ALIPAY_TIME = /^(\d{4}-\d\d-\d\d) (\d\d:\d\d:\d\d(?:\.\d{1,3})?)$/;

/**
 * Formats a time for Alipay.
 * @param at epoch ms; a fraction of a second is cut off
 */
export const toBeijing = (at: number): string =>
  new Date(at + AHEAD_MS).toISOString().slice(0, 19).replace('T', ' ');

/** @returns ISO 8601 in UTC. @throws ChannelError `garbage` */
export function fromBeijing(text: string): string {
  const [, date, time] = ALIPAY_TIME.exec(text) ?? [];
  const at = new Date(`${date}T${time}+08:00`);
  if (date === undefined || Number.isNaN(at.getTime())) {
    throw new ChannelError('garbage', 'alipay answered with an invalid time');
  }
  return at.toISOString();
}
