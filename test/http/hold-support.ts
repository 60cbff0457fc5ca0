/** Limits and handlers for the tests of `hold`. */
import { KeyedThrottle } from 'headgate';
import { concurrencyLimit } from 'headgate/http';

export const pause = (ms: number): Promise<void> => new Promise((resolve) => void setTimeout(resolve, ms));

/** A handler that takes `ms` milliseconds, and counts how many of its calls run at once. */
export const countingHandler = (
  ms: number,
): { handler: () => Promise<string>; running: number; maxRunning: number; started: number } => {
  const counts = {
    running: 0,
    maxRunning: 0,
    started: 0,
    async handler() {
      counts.started++;
      counts.maxRunning = Math.max(counts.maxRunning, ++counts.running);
      await pause(ms);
      counts.running--;
      return 'done';
    },
  };
  return counts;
};

/** A limit of one request at a time, which is held until the handler has finished. */
export const limitOfOne = (
  keyed: KeyedThrottle = new KeyedThrottle(Infinity, 1),
): { keyed: KeyedThrottle; options: ReturnType<typeof concurrencyLimit<never[]>> } => ({
  keyed,
  options: concurrencyLimit<never[]>({ key: () => 'me', maxConcurrent: 1, backend: keyed, hold: 'handler' }),
});

export const activeOf = (keyed: KeyedThrottle): number => keyed.peek('me')?.active ?? 0;
