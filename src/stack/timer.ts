/** Calls `tick` every `everyMs` until the given work has succeeded or failed. */
export async function whileTicking<T>(everyMs: number, tick: () => void, work: () => Promise<T>): Promise<T> {
  const timer = setInterval(tick, everyMs);
  try {
    return await work();
  } finally {
    clearInterval(timer);
  }
}
