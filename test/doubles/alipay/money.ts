/** Conversion between yuan with two decimals and fen, independent of the adapter's. */
export const fen = (yuan: string): number => Number(BigInt(yuan.replace('.', '')));
export const toYuan = (amount: number): string =>
  `${Math.trunc(amount / 100)}.${String(amount % 100).padStart(2, '0')}`;
