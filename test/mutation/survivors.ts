/**
 * Mutants that no test can kill, or that no test needs to kill, each with the reason. `run.ts` compares this list with
 * its report, and prints an entry for each survivor that the list lacks.
 */

export interface Survivor {
  /** The file, without `src/` and `.ts`. */
  readonly file: string;
  /** The declarations around the change, as `declarations.ts` names them: `Throttle.#settle`, `mapItems.onAbort`. */
  readonly within: string;
  /** The code before and after the change. A change that is listed twice stands for two equal mutants. */
  readonly changes: readonly string[];
  readonly reason: string;
}

export const survivors: readonly Survivor[] = [
  {
    file: 'core/throttle',
    within: 'Throttle.#applyLimits',
    changes: ['budgets.length > 1 → budgets.length >= 1'],
    reason: 'Speed only: a combination of one budget decides as that budget does.',
  },
  {
    file: 'core/throttle',
    within: 'Throttle.#schedule',
    changes: ['elapsed < delay → true', 'elapsed < delay → elapsed <= delay'],
    reason: 'Rounding only: a timer that fires on time is at its instant, within one rounding error.',
  },
  {
    file: 'core/throttle',
    within: 'Throttle.#schedule',
    changes: ['reached > this.#latest → reached >= this.#latest'],
    reason: 'Equivalent: the assignment stores an equal value.',
  },
  {
    file: 'core/throttle',
    within: 'Throttle.#closedError',
    changes: ['this.#closed?.reason → this.#closed.reason'],
    reason: 'Unreachable: the method runs on closed throttles only. The `?.` satisfies the type checker.',
  },
  {
    file: 'core/wait-queue',
    within: 'WaitQueue.join',
    changes: ['fn === undefined → true'],
    reason: 'Memory only: a job would also store a reject function.',
  },
  {
    file: 'core/wait-queue',
    within: 'WaitQueue.refuseAll',
    changes: ['this.#places.slice(this.#first) → this.#places'],
    reason: 'Speed only: the loop skips the empty places before the head one by one.',
  },
  {
    file: 'core/wait-queue',
    within: 'WaitQueue.#leave',
    changes: ['this.#places.length > 2 * this.#size + 64 → false'],
    reason:
      'Memory only: the queue keeps its empty places while it has a waiter. ' +
      'A test with half a million waiters kills this mutant. The runner skips that test.',
  },
  {
    file: 'core/wait-queue',
    within: 'WaitQueue.#leave',
    changes: [
      'this.#places.length > 2 * this.#size + 64 → this.#places.length >= 2 * this.#size + 64',
      '2 * this.#size + 64 → 2 * this.#size - 64',
      'this.#places.length > 2 * this.#size + 64 → true',
    ],
    reason: 'Speed only: the queue removes its empty places a little earlier or later.',
  },
  {
    file: 'core/wait-queue',
    within: 'WaitQueue.#connect.leave',
    changes: ['signal?.reason → signal.reason'],
    reason: 'Unreachable: an abort needs a signal. The `?.` satisfies the type checker.',
  },
  {
    file: 'core/wait-queue',
    within: 'WaitQueue.#connect',
    changes: ['signal !== undefined → true'],
    reason: 'Equivalent: undefined has no listeners to remove.',
  },
  {
    file: 'core/token-bucket',
    within: 'TokenBucket.take',
    changes: ['now > this.#at → now >= this.#at'],
    reason: 'Equivalent: the assignment stores an equal value.',
  },
  {
    file: 'core/sliding-window',
    within: 'SlidingWindow.readyAt',
    changes: ['over > this.#slack → over >= this.#slack'],
    reason: 'Equivalent unless the sum is off by exactly the slack, which allows for rounding.',
  },
  {
    file: 'core/sliding-window',
    within: 'SlidingWindow.#expire',
    changes: ['first < length → true', 'first < length → first <= length'],
    reason: 'Equivalent: past the last grant the comparison of instants is false.',
  },
  {
    file: 'core/sliding-window',
    within: 'SlidingWindow.#expire',
    changes: ['first > length / 2 → first >= length / 2'],
    reason: 'Speed only: the window removes expired grants a little earlier or later.',
  },
  {
    file: 'core/map',
    within: 'mapItems.abort',
    changes: ['signal?.reason → signal.reason'],
    reason: 'Unreachable: an abort needs a signal. The `?.` satisfies the type checker.',
  },
  {
    file: 'core/events',
    within: 'reasonOf',
    changes: [`'' → "Stryker was here!"`],
    reason: 'Equivalent: neither string is a code of this package.',
  },
  {
    file: 'core/events',
    within: 'EventPublisher.handedOver',
    changes: ['granted.hasSubscribers || released.hasSubscribers → true'],
    reason: 'Speed only: the publisher counts a permit that it never reports.',
  },
  {
    file: 'compose/keyed-throttle',
    within: 'KeyedThrottle.#of',
    changes: [
      '(++this.#calls & 15) === 0 → true',
      '(++this.#calls & 15) === 0 → (++this.#calls & 15) !== 0',
      '++this.#calls → --this.#calls',
    ],
    reason: 'Speed only: the sweep runs more often, or at other calls.',
  },
  {
    file: 'compose/keyed-throttle',
    within: 'Heap.remove',
    changes: ['place < 0 → false'],
    reason: 'Unobservable: the place is negative only after close, and the heap is unused from then on.',
  },
  {
    file: 'compose/keyed-throttle',
    within: 'Heap.remove',
    changes: ['last !== undefined → true'],
    reason: 'Unreachable: a heap that contains an item has a last item. The check satisfies the type checker.',
  },
  {
    file: 'compose/limiter',
    within: 'Limiter.#check',
    changes: ['place < last → place <= last'],
    reason: 'Equivalent: the line before refuses a resource that is listed twice in a row.',
  },
  {
    file: 'fetch/request-copy',
    within: 'originOf',
    changes: ['{ return undefined; } → {}'],
    reason: 'Equivalent: a function without a return statement returns undefined.',
  },
  {
    file: 'fetch/request-copy',
    within: 'copyOfHeaders',
    changes: ['headers instanceof Headers → false'],
    reason: 'Equivalent: a list of pairs makes equal headers.',
  },
  {
    file: 'web/response-body',
    within: 'copyMetadata',
    changes: ['copy[fact] !== original[fact] → true'],
    reason: 'Speed only: the copy defines a property with an equal value.',
  },
];
