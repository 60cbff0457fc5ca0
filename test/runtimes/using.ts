/** The syntax `using` and `await using`, untranslated: only runtimes that support the syntax can load this file. */
import { Throttle } from 'headgate';

/** The number of active permits inside and after blocks that end in every possible way. */
export async function inBlocks(): Promise<unknown[]> {
  const seen: unknown[] = [];
  const throttle = new Throttle(Infinity, 1);
  {
    using _ = await throttle.acquire();
    seen.push(throttle.active);
  }
  seen.push(throttle.active);
  {
    await using _ = await throttle.acquire();
    seen.push(throttle.active);
  }
  seen.push(throttle.active);
  const returns = async (): Promise<number> => {
    using _ = await throttle.acquire();
    return throttle.active;
  };
  seen.push(await returns(), throttle.active);
  try {
    await using _ = await throttle.acquire();
    throw new Error('thrown');
  } catch (error) {
    seen.push((error as Error).message, throttle.active);
  }
  let closed: Throttle;
  {
    await using own = new Throttle(Infinity, 1);
    closed = own;
  }
  seen.push(closed.closed);
  return seen;
}
