/** What all tests of clients share: the server of a test, its clock, and the guard against the internet. */
import { afterEach, beforeEach, expect, vi } from 'vitest';
import { SteppingClock } from './stepping-clock.js';
import { type Limits, Upstream } from './upstream-server.js';

const upstreams: Upstream[] = [];

/** Lets requests reach this machine only, mocks `Math.random`, and fails tests that leave an unhandled rejection. */
export function registerHooks(): void {
  const onUnhandledRejection = vi.fn();
  process.on('unhandledRejection', onUnhandledRejection);
  beforeEach(() => {
    vi.spyOn(Math, 'random').mockReturnValue(0);
    const { fetch } = globalThis;
    // A client that ignored its base URL would reach the internet.
    vi.stubGlobal('fetch', (async (input, init) => {
      const { hostname } = new URL(input instanceof Request ? input.url : input);
      if (hostname !== '127.0.0.1') throw new Error(`a request to ${hostname}`);
      return fetch(input, init);
    }) satisfies typeof fetch);
  });
  afterEach(async () => {
    vi.unstubAllGlobals();
    for (const upstream of upstreams.splice(0)) upstream.close();
    await new Promise((resolve) => void setImmediate(resolve));
    expect(onUnhandledRejection).not.toHaveBeenCalled();
  });
}

export async function startUpstream(
  limits: Omit<Limits, 'now'>,
): Promise<{ clock: SteppingClock; upstream: Upstream }> {
  const clock = new SteppingClock();
  const upstream = await Upstream.start({ ...limits, now: () => clock.now() });
  upstreams.push(upstream);
  return { clock, upstream };
}

export const repeat = <T>(count: number, send: () => Promise<T>): Promise<T[]> =>
  Promise.all(Array.from({ length: count }, send));

export const expectNothingHeld = (gate: { readonly active: number; readonly waiting: number }): void =>
  expect([gate.active, gate.waiting]).toEqual([0, 0]);
