/** Calls `tick` every `everyMs` for as long as the work lasts, however it ends: no timer outlives its work. */
export async function whileTicking<T>(everyMs: number, tick: () => void, work: () => Promise<T>): Promise<T> {
  const timer = setInterval(tick, everyMs);
  try {
    return await work();
  } finally {
    clearInterval(timer);
  }
}
