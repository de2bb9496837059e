/** Yuan with two places and fen, apart from the adapter's own way. */
export const fen = (yuan: string): number => Number(BigInt(yuan.replace('.', '')));
export const toYuan = (amount: number): string =>
  `${Math.trunc(amount / 100)}.${String(amount % 100).padStart(2, '0')}`;
