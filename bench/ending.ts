/**
 * Functions that stop the processes and connections of a part of the bench. They run when the part finishes or fails,
 * or on Ctrl-C.
 */
const stops: (() => Promise<void>)[] = [];

/** Registers a stop function. The functions run in reverse order. */
export function atEnd(stop: () => Promise<void>): void {
  stops.push(stop);
}

/** Runs all stop functions. May be called again while it runs. */
export async function endAll(): Promise<void> {
  for (let stop = stops.pop(); stop !== undefined; stop = stops.pop()) await stop();
}
