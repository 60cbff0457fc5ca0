/** The state of a throttle in Redis, as `inspect()` returns it. */
import { FOREVER } from './protocol.js';

/** The state of a throttle on Redis at one instant. */
export interface RedisState {
  /**
   * The holders of permits, in no particular order. `age`: seconds since the grant. `owner`: identifies the throttle
   * object through which the permit is held.
   */
  active: { slot: number; owner: string; age: number; cost: number }[];
  /** The waiters, in order. `age`: seconds since the call. */
  waiting: { owner: string; age: number; cost: number }[];
  /** The available tokens: `Infinity` without a rate limit. Below zero while a settled cost has left a debt. */
  tokens: number;
  /** Seconds until the pause ends: `0` when not paused, `Infinity` until `resume` is called. */
  pausedFor: number;
}

/** The reply of the script `INSPECT`: the server's time, six numbers of the state, leases, queue and owners. */
type InspectReply = [now: string, numbers: string[], leases: string[], queue: string[], owners: string[]];

/** Pairs the items of a flat list: name, value, name, value. */
const pairs = (flat: readonly string[]): [string, string][] =>
  flat.flatMap((name, index) => (index % 2 === 0 ? [[name, flat[index + 1] as string]] : []));

/** Converts the reply. A key without state in Redis has the limits of `throttle` and a full bucket. */
export function parseState(reply: unknown, throttle: { capacity: number; burst: number }): RedisState {
  const [now, numbers, leases, queue, owners] = reply as InspectReply;
  const known = numbers.length > 0;
  const [capacity, period, burst, tokens, since, paused] = (known ? numbers : [0, 1, 0, 0, 0, 0]).map(Number) as [
    number,
    number,
    number,
    number,
    number,
    number,
  ];
  // An expired entry stays in Redis until the next call of the script.
  const isAlive = (expiry: string | undefined): boolean => Number(expiry) > Number(now);
  const livingOwners = new Set(pairs(owners).flatMap(([name, expiry]) => (isAlive(expiry) ? [name] : [])));
  const ageOf = (instant: string | number): number => Math.max(0, (Number(now) - Number(instant)) / 1e6);
  const ownerOf = (id: string): string => id.slice(0, id.lastIndexOf('.'));
  const limited = known ? capacity >= 0 : throttle.capacity < Infinity;
  const level = known ? Math.min(burst, tokens + ageOf(since) * 1e6 * (capacity / period)) : throttle.burst;
  return {
    active: pairs(leases).flatMap(([id, lease]) => {
      const [expiry, slot, granted = 0, cost] = lease.split(' ');
      if (!isAlive(expiry)) return [];
      return [{ slot: Number(slot), owner: ownerOf(id), age: ageOf(granted), cost: Number(cost) }];
    }),
    waiting: pairs(queue).flatMap(([waiter, ticket]) => {
      const [id = '', cost] = waiter.split(' ');
      const owner = ownerOf(id);
      return livingOwners.has(owner) ? [{ owner, age: ageOf(ticket), cost: Number(cost) }] : [];
    }),
    tokens: limited ? level : Infinity,
    pausedFor: paused >= FOREVER ? Infinity : Math.max(0, (paused - Number(now)) / 1e6),
  };
}
