/** What was started and must be stopped, however a part ends: by itself, by an error, or by Ctrl-C. */
const stops: (() => Promise<void>)[] = [];

/** The last that was added stops first. */
export function atEnd(stop: () => Promise<void>): void {
  stops.push(stop);
}

/** Stops everything. Safe to call again while it runs. */
export async function endAll(): Promise<void> {
  for (let stop = stops.pop(); stop !== undefined; stop = stops.pop()) await stop();
}
