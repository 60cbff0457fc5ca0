/** The scripts that read and reset the state of a throttle in Redis, page by page. */
import { decodeCharge, readName, slotsOf } from './charge.js';
import { FOREVER } from './protocol.js';
import { Script } from './script.js';
import INSPECT from './scripts/inspect.lua';
import RESET from './scripts/reset.lua';

/** The state of a throttle on Redis at one instant. */
export interface RedisState {
  /**
   * The holders of permits, in no particular order. `slots`: the numbers of the slots that the permit holds, of which
   * `slot` is the first; 0 without a slot. `age`: seconds since the grant. `owner`: identifies the throttle object
   * through which the permit is held. `cost`: the requested cost of the rates without a name. `costs`: of each rate
   * with a name; absent if this throttle names no rate.
   */
  active: {
    slot: number;
    slots: readonly number[];
    owner: string;
    age: number;
    cost: number;
    costs?: Readonly<Record<string, number>>;
  }[];
  /** The waiters, in order. `slots`: how many they request. `age`: seconds since the call. */
  waiting: { owner: string; age: number; cost: number; costs?: Readonly<Record<string, number>>; slots: number }[];
  /**
   * The available tokens of the rates without a name, the smallest level of them: `Infinity` without such a rate. Below
   * zero while a settled cost has left a debt.
   */
  tokens: number;
  /** The available tokens of each rate with a name. */
  levels: Readonly<Record<string, number>>;
  /** Seconds until the pause ends: `0` when not paused, `Infinity` until `resume` is called. */
  pausedFor: number;
}

/** Runs a script on the keys of a throttle. */
export type RunScript = (script: Script, ...args: string[]) => Promise<unknown>;

const inspectScript = new Script(INSPECT);
const resetScript = new Script(RESET);

const garbage = (): TypeError => new TypeError('the client has returned a reply that is not from the script');

/** The limits of a throttle object whose state is read. */
interface ReadLimits {
  /** The levels of a full gate: of the rates without a name, and of each rate with a name. */
  readonly fullTokens: number;
  readonly fullLevels: Readonly<Record<string, number>>;
}

/**
 * Reads the state. A key without state in Redis has the limits of the throttle object and full buckets.
 *
 * @throws {TypeError} A reply is not from the script.
 */
export async function readState(run: RunScript, limits: ReadLimits): Promise<RedisState> {
  const state: RedisState = { active: [], waiting: [], tokens: Infinity, levels: {}, pausedFor: 0 };
  const names = Object.keys(limits.fullLevels);
  for (let next = ''; ;) {
    const separator = next.indexOf(' ');
    const reply = await run(inspectScript, next.slice(0, Math.max(0, separator)), next.slice(separator + 1));
    const [first = '', following, ...lines] = typeof reply === 'string' ? reply.split('\n') : [];
    if (following === undefined || (following !== '' && following === next)) throw garbage();
    const [now = '', paused, ...levels] = first.split(' ');
    const instant = Number(now || NaN);
    if (Number.isNaN(instant)) throw garbage();
    setLevels(state, levels, paused !== undefined, limits);
    const end = Number(paused ?? 0);
    state.pausedFor = end >= FOREVER ? Infinity : Math.max(0, (end - instant) / 1e6);
    for (const line of lines) addLine(state, instant, line, names);
    if (following === '') return state;
    next = following;
  }
}

/** Reads the levels of the rates: `level` for each rate without a name, `level;name=` for each other rate. */
function setLevels(state: RedisState, words: readonly string[], isKnown: boolean, limits: ReadLimits): void {
  state.tokens = isKnown ? Infinity : limits.fullTokens;
  const levels: Record<string, number> = { ...limits.fullLevels };
  for (const word of words) {
    const [level, tag] = word.split(';');
    if (tag === undefined) state.tokens = Math.min(state.tokens, Number(level));
    else levels[readName(tag.slice(0, -1))] = Number(level);
  }
  state.levels = levels;
}

function addLine(state: RedisState, now: number, line: string, names: readonly string[]): void {
  const [kind, owner = '', ...fields] = line.split(' ');
  const ageOf = (instant = ''): number => Math.max(0, (now - Number(instant)) / 1e6);
  const { cost, costs, slots } = decodeCharge(fields.at(-1) ?? '', names);
  const named = costs === undefined ? {} : { costs };
  if (kind === 'L') {
    const held = slotsOf(`${fields[0]} `);
    state.active.push({ slot: held[0] ?? 0, slots: held, owner, age: ageOf(fields[1]), cost, ...named });
  } else state.waiting.push({ owner, age: ageOf(fields[0]), cost, ...named, slots });
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
