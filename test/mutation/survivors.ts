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
    within: 'WaitQueue.enqueue',
    changes: ['fn === undefined → true'],
    reason: 'Memory only: a job would also store a reject function.',
  },
  {
    file: 'core/wait-queue',
    within: 'WaitQueue.refuseAll',
    changes: ['this.#entries.slice(this.#first) → this.#entries'],
    reason: 'Speed only: the loop skips the holes before the head one by one.',
  },
  {
    file: 'core/wait-queue',
    within: 'WaitQueue.#remove',
    changes: ['this.#entries.length > 2 * this.#size + 64 → false'],
    reason:
      'Memory only: the queue keeps its holes while it has a waiter. ' +
      'A test with half a million waiters kills this mutant. The runner skips that test.',
  },
  {
    file: 'core/wait-queue',
    within: 'WaitQueue.#remove',
    changes: [
      'this.#entries.length > 2 * this.#size + 64 → this.#entries.length >= 2 * this.#size + 64',
      '2 * this.#size + 64 → 2 * this.#size - 64',
    ],
    reason: 'Speed only: the queue removes its holes a little earlier or later.',
  },
  {
    file: 'core/wait-queue',
    within: 'WaitQueue.#watch.onAbort',
    changes: ['signal?.reason → signal.reason'],
    reason: 'Unreachable: an abort needs a signal. The `?.` satisfies the type checker.',
  },
  {
    file: 'core/wait-queue',
    within: 'WaitQueue.#watch',
    changes: ['signal !== undefined → true'],
    reason: 'Equivalent: undefined has no listeners to remove.',
  },
  {
    file: 'core/wait-queue',
    within: 'WaitQueue.#watch.startTimer',
    changes: ['elapsed < seconds - timeout * ROUNDING → elapsed <= seconds - timeout * ROUNDING'],
    reason: 'Rounding only: the rest of the timer equals the tolerated error.',
  },
  {
    file: 'core/wait-queue',
    within: 'WaitQueue.#addCosts',
    changes: ['index < costs.length → index <= costs.length'],
    reason: 'Equivalent: `sumWith` reads as many sums as a vector has entries.',
  },
  {
    file: 'core/wait-queue',
    within: 'WaitQueue.#compact',
    changes: ['this.#costs.length > 0 → true', 'this.#costs.length > 0 → this.#costs.length >= 0'],
    reason: 'Speed only: an empty array replaces an empty array.',
  },
  {
    file: 'core/wait-queue',
    within: 'ignoreErrors',
    changes: ['cancel?.() → cancel()'],
    reason: 'Speed only: the function ignores the error of a call of undefined.',
  },
  {
    file: 'core/cost',
    within: 'readVector',
    changes: [
      "typeof value === 'number' && value >= 0  … dex] as number) → false",
      `'number' → ""`,
      'value >= 0 → value > 0',
      'value <= (rates.maxCosts[index] as number) → value < (rates.maxCosts[index] as number)',
      '!isOrdinary → true',
    ],
    reason: 'Speed only: each check accepts a cost that can be granted.',
  },
  {
    file: 'core/cost',
    within: 'readCosts',
    changes: ['count === 2 → false'],
    reason: 'Memory only: the array has the same entries, and may have room for more.',
  },
  {
    file: 'core/cost',
    within: 'describeCost',
    changes: ['terms?.costs → terms.costs'],
    reason: 'Unreachable: in a gate with names, every call has terms. The `?.` satisfies the type checker.',
  },
  {
    file: 'core/cost',
    within: 'PermitExtra.settled',
    changes: ['[] → ["Stryker was here"]'],
    reason: 'Equivalent: only the value true marks a settled entry.',
  },
  {
    file: 'core/token-bucket',
    within: 'TokenBucket.take',
    changes: ['now > this.#at → now >= this.#at'],
    reason: 'Equivalent: the assignment stores an equal value.',
  },
  {
    file: 'core/token-bucket',
    within: 'TokenBucket.readyAt',
    changes: ['cost - level <= burst * SLACK → cost - level < burst * SLACK'],
    reason: 'Rounding only: the cost differs from the level by exactly the tolerated error.',
  },
  {
    file: 'core/token-bucket',
    within: 'TokenBucket.take',
    changes: ['cost > level → true', 'cost > level → cost >= level'],
    reason: 'Speed only: `readyAt` returns `now` for a cost up to the level.',
  },
  {
    file: 'core/token-bucket',
    within: 'TokenBucket.settle',
    changes: ['origin?.earlier → origin.earlier'],
    reason:
      'Unreachable: without an origin, every serial number is greater than 0. The `?.` satisfies the type checker.',
  },
  {
    file: 'core/token-bucket',
    within: 'TokenBucket.#settleBefore',
    changes: ['difference > 0 → difference >= 0'],
    reason: 'Equivalent: a difference of 0 changes no level.',
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
    file: 'core/sliding-window',
    within: 'SlidingWindow.#expiryOf',
    changes: ['this.#times.length - 1 → this.#times.length + 1'],
    reason: 'Equivalent: the live grants add up to the cost, so the search ends at one of them.',
  },
  {
    file: 'core/sliding-window',
    within: 'SlidingWindow.#expiryOf',
    changes: ['this.#sumBefore(middle + 1) - expired < cost → this.#sumBefore(middle + 1) - expired <= cost'],
    reason: 'Equivalent unless the sum is off by exactly the slack, which allows for rounding.',
  },
  {
    file: 'core/sliding-window',
    within: 'SlidingWindow.fullAt',
    changes: ['last >= this.#first → true'],
    reason: 'Speed only: the loop also visits expired entries, and the next line ignores them.',
  },
  {
    file: 'core/sliding-window',
    within: 'SlidingWindow.fullAt',
    changes: ['(this.#costs[last] as number) <= this.#slack → this.#costs[last] as number < this.#slack'],
    reason: 'Rounding only: the cost equals the tolerated error.',
  },
  {
    file: 'core/sliding-window',
    within: 'SlidingWindow.take',
    changes: ['this.#total + cost - this.burst > 2 * this.#slack → this.#total + cost - this.burst >= 2 * this.#slack'],
    reason: 'Rounding only: the sum is off by exactly the tolerated error.',
  },
  {
    file: 'core/sliding-window',
    within: 'SlidingWindow.#indexOf',
    changes: ['this.#serials.length - 1 → this.#serials.length + 1'],
    reason: 'Equivalent: the window contains the grant, so the search ends at its entry.',
  },
  {
    file: 'core/sliding-window',
    within: 'SlidingWindow.settleEarlier',
    changes: ['index < this.#times.length → true', 'index < this.#times.length → index <= this.#times.length'],
    reason: 'Equivalent: past the last entry the comparison of instants is false.',
  },
  {
    file: 'core/sliding-window',
    within: 'SlidingWindow.settleEarlier',
    changes: ['(this.#times[index] as number) < time → this.#times[index] as number <= time'],
    reason: 'Equivalent: entries of one instant may have any order.',
  },
  {
    file: 'core/sliding-window',
    within: 'SlidingWindow.correct',
    changes: ['excess < 0 → excess <= 0'],
    reason: 'Memory only: the window stores an entry with a cost of 0.',
  },
  {
    file: 'core/sliding-window',
    within: 'SlidingWindow.correct',
    changes: ['excess > 0 → true', 'excess > 0 → excess >= 0'],
    reason: 'Speed only: the loop continues, and takes 0 from each later entry.',
  },
  {
    file: 'core/budget',
    within: 'CombinedBudget.readyAt',
    changes: ['ready > at → ready >= at'],
    reason: 'Equivalent: the assignment stores an equal value.',
  },
  {
    file: 'core/budget',
    within: 'CombinedBudget.settle',
    changes: ['own !== 0 → true'],
    reason: 'Speed only: a difference of 0 changes no level.',
  },
  {
    file: 'core/budget',
    within: 'CombinedBudget.settleEarlier',
    changes: ['own !== 0 → true'],
    reason: 'Speed only: a difference of 0 changes no level.',
  },
  {
    file: 'core/settlement-log',
    within: 'GrantLog.#fold',
    changes: ['[] → ["Stryker was here"]'],
    reason: 'Equivalent: the loop over the older peaks needs two numbers per peak.',
  },
  {
    file: 'core/settlement-log',
    within: 'GrantLog.#fold',
    changes: ['leastRoom > 0 → true', 'leastRoom > 0 → leastRoom >= 0'],
    reason: 'Speed only: no peak is higher than a full bucket.',
  },
  {
    file: 'core/settlement-log',
    within: 'GrantLog.#fold',
    changes: [
      'room >= leastRoom → room > leastRoom',
      '(older[index + 1] as number) < leastRoom → older[index + 1] as number <= leastRoom',
    ],
    reason: 'Memory only: the log keeps several peaks of the same height.',
  },
  {
    file: 'core/settlement-log',
    within: 'GrantLog.#fold',
    changes: ['[] → ["Stryker was here"]'],
    reason: 'Equivalent: `reversePairs` reads pairs from the end, so it skips a text in front of them.',
  },
  {
    file: 'core/settlement-log',
    within: 'GrantLog.#fold',
    changes: ['older.length - 2 → older.length + 2'],
    reason: 'Equivalent: past the last peak, the comparison with undefined is false.',
  },
  {
    file: 'core/settlement-log',
    within: 'mergePeaks',
    changes: ['peaks.length > 2 * MAX_PEAKS → false', 'peaks.length > 2 * MAX_PEAKS → peaks.length >= 2 * MAX_PEAKS'],
    reason: 'Memory only: the log merges its peaks never, or a little earlier.',
  },
  {
    file: 'core/settlement-log',
    within: 'mergePeaks',
    changes: ['last >= 0 → true'],
    reason: 'Equivalent: without an earlier peak, the difference is NaN. The check satisfies the type checker.',
  },
  {
    file: 'core/settlement-log',
    within: 'mergePeaks',
    changes: ['last >= 0 → last > 0'],
    reason: 'Memory only: the log keeps the first peak apart.',
  },
  {
    file: 'core/settlement-log',
    within: 'mergePeaks',
    changes: [
      '(peaks[index + 1] as number) - (merged[l … number) < grain → (peaks[index + 1] as number) - (merged[l … umber) <= grain',
    ],
    reason: 'Memory only: the log also merges peaks that differ by exactly the limit.',
  },
  {
    file: 'core/settlement-log',
    within: 'correctFolded',
    changes: [
      'next < peaks.length → true',
      'next < peaks.length → true',
      'next < peaks.length → next <= peaks.length',
      'next < peaks.length → next <= peaks.length',
      'next < peaks.length && hidden > 0 → true',
      'next < peaks.length && hidden > 0 → next < peaks.length || hidden > 0',
      'hidden > 0 → true',
      'hidden > 0 → hidden >= 0',
    ],
    reason: 'Equivalent: before the first peak and past the last one, the comparison with undefined is false.',
  },
  {
    file: 'core/settlement-log',
    within: 'correctFolded',
    changes: [
      '(peaks[hidden - 1] as number) >= (peaks[next + 1] as number) → peaks[hidden - 1] as number > (peaks[next + 1] as number)',
    ],
    reason: 'Memory only: the log keeps an earlier peak of the same height.',
  },
  {
    file: 'core/limits',
    within: 'spanOf',
    changes: ['capacity < 1 → capacity <= 1'],
    reason: 'Equivalent: a period divided by 1 is the period.',
  },
  {
    file: 'core/limits',
    within: 'combineBudgets',
    changes: ['name === undefined → false'],
    reason:
      'Equivalent: no rate of the list has the name undefined, so the index is -1. The check satisfies the type checker.',
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
    file: 'core/permit',
    within: 'Grant.constructor',
    changes: ['disposeKey !== Symbol.dispose || disposeKey === undefined → true'],
    reason: 'Speed only: a method that the prototype already has is added again.',
  },
  {
    file: 'core/permit',
    within: 'Grant.costs',
    changes: ['[] → ["Stryker was here"]'],
    reason: 'Equivalent: a permit without terms belongs to a gate without names, so no entry is read.',
  },
  {
    file: 'core/permit',
    within: 'Grant.signal',
    changes: ['[this.cost] → []'],
    reason: 'Equivalent: a permit without terms belongs to a gate without names, so no entry is read.',
  },
  {
    file: 'core/permit',
    within: 'Grant.abortSignal',
    changes: ['this.#issuer.expiredError?.() → this.#issuer.expiredError()'],
    reason: 'Unreachable: only a gate with this method lets its permits expire. The `?.` satisfies the type checker.',
  },
  {
    file: 'compose/indexed-heap',
    within: 'IndexedHeap.remove',
    changes: ['last !== undefined → true'],
    reason: 'Unreachable: a heap that contains an item has a last item. The check satisfies the type checker.',
  },
  {
    file: 'compose/indexed-heap',
    within: 'IndexedHeap.#sift',
    changes: [
      'item.evictableAt < (items[(parent = (ind …  T).evictableAt → item.evictableAt <= (items[parent = inde …  T).evictableAt',
      '(items[child + 1] as T).evictableAt < (i …  T).evictableAt → (items[child + 1] as T).evictableAt <= ( …  T).evictableAt',
      'item.evictableAt <= (items[child] as T).evictableAt → item.evictableAt < (items[child] as T).evictableAt',
    ],
    reason: 'Equivalent: items with an equal `evictableAt` may have any order.',
  },
  {
    file: 'compose/keyed-throttle',
    within: 'KeyedThrottle.#throttleOf',
    changes: [
      '(++this.#callCount & 15) === 0 → true',
      '(++this.#callCount & 15) === 0 → (++this.#callCount & 15) !== 0',
      '++this.#callCount → --this.#callCount',
    ],
    reason: 'Speed only: evictions run more often, or at other calls.',
  },
  {
    file: 'compose/keyed-throttle',
    within: 'KeyedThrottle.#evictDue',
    changes: ['count < limit → count <= limit', 'count < limit → true'],
    reason: 'Speed only: one call evicts more of the due entries.',
  },
  {
    file: 'compose/limiter',
    within: 'Limiter.#checkOrder',
    changes: ['registered < previous → registered <= previous'],
    reason: 'Equivalent: the line before refuses a resource that is listed twice in a row.',
  },
  {
    file: 'fetch/key',
    within: 'originOf',
    changes: ['{ return undefined; } → {}'],
    reason: 'Equivalent: a function without a return statement returns undefined.',
  },
  {
    file: 'fetch/pause-log',
    within: 'PauseLog.end',
    changes: ['pausedAt > oldest → pausedAt >= oldest'],
    reason: 'Equivalent: each sending and each pause has a position of its own.',
  },
  {
    file: 'fetch/pause-log',
    within: 'PauseLog.isLate',
    changes: ['(this.#pausedAt.get(key) ?? 0) > flight.sentAt → (this.#pausedAt.get(key) ?? 0) >= flight.sentAt'],
    reason: 'Equivalent: each sending and each pause has a position of its own, from 1 on.',
  },
  {
    file: 'fetch/request-copy',
    within: 'copyHeaders',
    changes: ['headers instanceof Headers → false'],
    reason: 'Equivalent: a list of pairs makes equal headers.',
  },
  {
    file: 'fetch/attempt',
    within: 'runAttempt',
    changes: ['[] → ["Stryker was here"]', '[] → ["Stryker was here"]'],
    reason: 'Equivalent: `discard` ignores a value without a body.',
  },
  {
    file: 'web/response-body',
    within: 'discard',
    changes: ['body?.cancel → body.cancel'],
    reason: 'Equivalent: without a body, `discard` ignores the error.',
  },
  {
    file: 'web/response-body',
    within: 'copyMetadata',
    changes: ['copy[name] !== original[name] → true'],
    reason: 'Speed only: the copy defines a property with an equal value.',
  },
  {
    file: 'web/sha256',
    within: 'sha256',
    changes: ['native === undefined → true'],
    reason: 'Speed only: each call looks up node:crypto.',
  },
  {
    file: 'web/sha256',
    within: 'encode',
    changes: ['!/\\p{Surrogate}/u.test(text) → false'],
    reason: 'Speed only: a text without surrogates is encoded one character at a time.',
  },
  {
    file: 'web/sha256',
    within: 'computeConstants',
    changes: ['primes.length < 64 → primes.length <= 64'],
    reason: 'Equivalent: the digest uses the first 64 constants.',
  },
  {
    file: 'web/sha256',
    within: 'pureSha256',
    changes: ['index < 64 → index <= 64'],
    reason: 'Equivalent: a typed array ignores a write beyond its end.',
  },
  {
    file: 'web/retry-after',
    within: 'readWait',
    changes: ['wait !== undefined → true'],
    reason: 'Equivalent: undefined is not greater than 0. The check satisfies the type checker.',
  },
  {
    file: 'web/retry-after',
    within: 'createLookup',
    changes: ['[] → ["Stryker was here"]'],
    reason: 'Equivalent: the text becomes a field with the name `s`, which no lookup requests.',
  },
  {
    file: 'web/retry-after',
    within: 'itemsOf',
    changes: ['[] → ["Stryker was here"]', '[] → ["Stryker was here"]'],
    reason: 'Equivalent: an unreadable item is skipped, and both lists of a quota have it at the same index.',
  },
  {
    file: 'web/retry-after',
    within: 'quotasOf',
    changes: [`'' → "Stryker was here!"`, `'' → "Stryker was here!"`, `'' → "Stryker was here!"`],
    reason:
      'Equivalent: the name of a quota has no effect, and a text in place of a number is as unreadable as no text.',
  },
  {
    file: 'web/retry-after',
    within: 'readDate',
    changes: ['text === undefined → false'],
    reason: 'Equivalent: undefined matches no format. The check satisfies the type checker.',
  },
  {
    file: 'web/retry-after',
    within: 'readDate',
    changes: [
      ...Array.from({ length: 6 }, () => `'' → "Stryker was here!"`),
      ...Array.from({ length: 2 }, () => '[] → ["Stryker was here"]'),
    ],
    reason: 'Equivalent: a match has all groups, and without a match the day is missing, which no date allows.',
  },
  {
    file: 'web/retry-after',
    within: 'readTimestamp',
    changes: [`'' → "Stryker was here!"`, '[] → ["Stryker was here"]'],
    reason: 'Equivalent: a match has all groups, and without a match the day is missing, which no date allows.',
  },
  {
    file: 'web/retry-after',
    within: 'readDuration',
    changes: ['/^\\d/ → /\\d/'],
    reason: 'Equivalent: a text with another first character has a rest, so it is unreadable.',
  },
  {
    file: 'web/retry-after',
    within: 'readNumber',
    changes: ['text !== undefined → true'],
    reason: 'Equivalent: undefined is no text of digits. The check satisfies the type checker.',
  },
];
