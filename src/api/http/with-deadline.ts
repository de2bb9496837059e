/** The result, or `fallback` when it fails or takes longer than `deadlineMs`; a result that comes later is ignored. */
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
