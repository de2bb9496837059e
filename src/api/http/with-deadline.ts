/**
 * Returns the result of `work`. If `work` fails or takes longer than `deadlineMs`, returns `fallback` and ignores any
 * later result.
 */
export async function orFallbackWithin<T>(deadlineMs: number, fallback: T, work: Promise<T>): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<T>((resolve) => {
    timer = setTimeout(resolve, deadlineMs, fallback);
  });
  try {
    return await Promise.race([work.catch(() => fallback), late]);
  } finally {
    clearTimeout(timer);
  }
}
