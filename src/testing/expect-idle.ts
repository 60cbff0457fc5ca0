/** A check for the end of a test: no permit is out, and no call waits. */
import { development, type OpenCall } from '../core/development.js';
import type { WatchedThrottle } from '../core/events.js';
import type { KeyedGate } from '../core/gate.js';
import { labelOf } from '../core/gate-label.js';
import { printable } from '../core/refusals.js';
import { invalid } from '../core/validation.js';
import type { Limiter, Resources } from '../compose/limiter.js';
import type { Resource } from '../compose/resource.js';

/** The most stacks that a message lists for one gate. */
const MAX_STACKS = 10;

/** A gate, and its name in the message. */
interface Subject {
  readonly label: string;
  readonly gate: WatchedThrottle;
}

/** The internal properties that lead from a gate to its throttles. */
interface Composition {
  readonly watched?: WatchedThrottle;
  readonly watchedByKey?: ReadonlyMap<unknown, WatchedThrottle>;
  readonly watchedGates?: readonly object[];
}

/**
 * Throws if a permit of the gate is out, or if a call waits. With `headgate/development`, the message has the stack of
 * each of these calls. Call it at the end of a test, after the work has ended. It is synchronous, and works with every
 * test runner.
 *
 * @param gate A `Throttle`, a `Resource`, a `RedisThrottle`, a gate with keys, a `Limiter` or some of its resources. Of
 *   a `Limiter`, it checks the gates of headgate. On Redis, it checks the calls of this object.
 * @throws {Error} The gate is not idle.
 * @throws {TypeError} `gate` is not one of these.
 *
 * @example
 * import { Throttle } from 'headgate';
 * import { expectIdle } from 'headgate/testing';
 *
 * const throttle = new Throttle(10, 2);
 * await throttle.run(() => 'done');
 * expectIdle(throttle);
 */
export function expectIdle(gate: WatchedThrottle | Resource | KeyedGate<never> | Limiter | Resources): void {
  const subjects = subjectsOf(gate);
  if (subjects === undefined) {
    const expected = 'a Throttle, a KeyedThrottle, a Resource, a Limiter, some of its resources, or a gate on Redis';
    throw invalid('gate', expected, gate);
  }
  const faults = subjects.flatMap(faultsOf);
  if (faults.length === 0) return;
  const error = new Error(faults.join('\n\n'));
  // Test runners show the line at the top of the stack.
  Error.captureStackTrace?.(error, expectIdle);
  throw error;
}

/** The throttles of a gate; `undefined` if it is no gate of headgate. */
function subjectsOf(gate: unknown): Subject[] | undefined {
  if (Object(gate) !== gate) return undefined;
  const { watched, watchedByKey, watchedGates } = gate as Composition;
  if (watchedGates !== undefined) return watchedGates.flatMap((each) => subjectsOf(each) ?? []);
  if (watchedByKey !== undefined)
    return Array.from(watchedByKey, ([key, each]) => ({
      label: `the key ${typeof key === 'string' ? printable(key) : String(key)} of ${labelOf(each)}`,
      gate: each,
    }));
  const throttle = watched ?? (gate as WatchedThrottle);
  if (typeof throttle.waiting !== 'number' || typeof occupiedBy(throttle) !== 'number') return undefined;
  return [{ label: labelOf(throttle), gate: throttle }];
}

/** The occupied slots, or the permits of a gate on Redis. */
function occupiedBy({ active, held }: WatchedThrottle): number | undefined {
  return active ?? held;
}

function faultsOf({ label, gate }: Subject): string[] {
  const occupied = occupiedBy(gate) ?? 0;
  const { waiting } = gate;
  if (occupied === 0 && waiting === 0) return [];
  const { aids } = development;
  const text = `${label} is not idle: active ${occupied}, waiting ${waiting}`;
  if (aids === undefined)
    return [`${text}. Import headgate/development before the gates are used, to see the stack of each call`];
  const calls = aids.openCalls(gate);
  // The aids know no permit that was granted before they were loaded.
  const known =
    gate.active === undefined ? calls.permits.length : calls.permits.reduce((sum, { slots }) => sum + slots, 0);
  const unknown = occupied - known;
  return [
    [
      text,
      ...stacks('a permit was not released', calls.permits),
      ...stacks('a call waits', calls.waiting),
      ...(unknown > 0 ? [`active before headgate/development was loaded: ${unknown}`] : []),
    ].join('\n'),
  ];
}

/** A headline and the stack of each call. */
function stacks(what: string, calls: readonly OpenCall[]): string[] {
  const lines: string[] = [];
  for (const { frames, slots } of calls.slice(0, MAX_STACKS)) {
    lines.push(`${what} (${slots === 1 ? '1 slot' : `${slots} slots`}), called`);
    for (const frame of frames.length === 0 ? ['an unknown place'] : frames) lines.push(`    at ${frame}`);
  }
  if (calls.length > MAX_STACKS) lines.push(`${what}: ${calls.length - MAX_STACKS} more calls`);
  return lines;
}
