/** The scripts that read and reset the state of a throttle in Redis, page by page. */
import { FOREVER } from './protocol.js';
import { Script } from './script.js';
import INSPECT from './scripts/inspect.lua';
import RESET from './scripts/reset.lua';

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

/** Runs a script on the keys of a throttle. */
export type RunScript = (script: Script, ...args: string[]) => Promise<unknown>;

const inspectScript = new Script(INSPECT);
const resetScript = new Script(RESET);

const garbage = (): TypeError => new TypeError('the client has returned a reply that is not from the script');

/**
 * Reads the state. A key without state in Redis has the limits of `throttle` and a full bucket.
 *
 * @throws {TypeError} A reply is not from the script.
 */
export async function readState(run: RunScript, throttle: { capacity: number; burst: number }): Promise<RedisState> {
  const state: RedisState = { active: [], waiting: [], tokens: Infinity, pausedFor: 0 };
  for (let next = ''; ;) {
    const separator = next.indexOf(' ');
    const reply = await run(inspectScript, next.slice(0, Math.max(0, separator)), next.slice(separator + 1));
    const [first = '', following, ...lines] = typeof reply === 'string' ? reply.split('\n') : [];
    if (following === undefined || (following !== '' && following === next)) throw garbage();
    const [now = NaN, ...numbers] = first.split(' ').map(Number);
    if (Number.isNaN(now)) throw garbage();
    setLevels(state, now, numbers, throttle);
    for (const line of lines) addLine(state, now, line);
    if (following === '') return state;
    next = following;
  }
}

function setLevels(
  state: RedisState,
  now: number,
  numbers: readonly number[],
  throttle: { capacity: number; burst: number },
): void {
  if (numbers.length === 0) {
    state.tokens = throttle.capacity < Infinity ? throttle.burst : Infinity;
    return;
  }
  const [capacity, period, burst, tokens, since, paused] = numbers as [number, number, number, number, number, number];
  const level = Math.min(burst, tokens + Math.max(0, now - since) * (capacity / period));
  state.tokens = capacity >= 0 ? level : Infinity;
  state.pausedFor = paused >= FOREVER ? Infinity : Math.max(0, (paused - now) / 1e6);
}

function addLine(state: RedisState, now: number, line: string): void {
  const [kind, owner = '', ...fields] = line.split(' ');
  const [first = NaN, second = NaN, third = NaN] = fields.map(Number);
  const ageOf = (instant: number): number => Math.max(0, (now - instant) / 1e6);
  if (kind === 'L') state.active.push({ slot: first, owner, age: ageOf(second), cost: third });
  else state.waiting.push({ owner, age: ageOf(first), cost: second });
}

/** Deletes the state, and notifies all owners. */
export async function resetState(run: RunScript): Promise<void> {
  let left = Infinity;
  for (let part = ''; ; part = 'more') {
    const remaining = Number(await run(resetScript, part));
    // A reply that is no smaller number is not from the script.
    if (!(remaining > 0 && remaining < left)) return;
    left = remaining;
  }
}
