/** The syntax `using` and `await using`, as it is: only runtimes that know it can load this file. */
import { Throttle } from 'headgate';

/** How many permits are out inside and after blocks that end in all ways. */
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
