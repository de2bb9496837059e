/** Converts between yuan with two decimals and fen. The code is independent of the adapter's code. */
export const fen = (yuan: string): number => Number(BigInt(yuan.replace('.', '')));
export const toYuan = (amount: number): string =>
  `${Math.trunc(amount / 100)}.${String(amount % 100).padStart(2, '0')}`;
