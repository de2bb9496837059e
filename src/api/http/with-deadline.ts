/**
 * Returns the result of `work`, or `fallback` if it fails or takes longer than `deadlineMs`. A later result is ignored.
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
