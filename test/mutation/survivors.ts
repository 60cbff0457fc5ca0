/** Changes that no test can notice, or need notice, each with the reason. `run.ts` holds the list against the report. */

interface Survivor {
  /** Of `src`. */
  readonly file: string;
  /** The line that is changed, or the first of them. */
  readonly line: string;
  /** What becomes what. */
  readonly changes: readonly string[];
  readonly reason: string;
}

export const survivors: readonly Survivor[] = [
  {
    file: 'throttle',
    line: 'this.#restMatters = keeper !== undefined;',
    changes: ['keeper !== undefined → true'],
    reason: 'Speed only: it looks at itself after a release when nobody cares.',
  },
  {
    file: 'throttle',
    line: 'if (this.#restMatters) this.#rest();',
    changes: ['this.#restMatters → true'],
    reason: 'Speed only: it looks at itself after a release when nobody cares.',
  },
  {
    file: 'throttle',
    line: 'if (this.#queue.size > 0) this.#drain(this.#now());',
    changes: ['this.#queue.size > 0 → true', 'this.#queue.size > 0 → this.#queue.size >= 0'],
    reason: 'Speed only: with nobody in it, the queue is drained of nobody.',
  },
  {
    file: 'throttle',
    line: 'settle: (permit, difference) => (difference > 0 ? (keeper?.heir() ?? this) : this).#settle(permit, difference),',
    changes: ['difference > 0 → difference >= 0'],
    reason: 'Equivalent: a permit that is settled at its cost tells nobody.',
  },
  {
    file: 'throttle',
    line: 'const now = this.#own === undefined ? -Infinity : this.#now();',
    changes: ['-Infinity → +Infinity'],
    reason: 'Never used: without a budget before it, the new one is full whenever that is.',
  },
  {
    file: 'throttle',
    line: 'this.#budget = budgets.length > 1 ? new CombinedBudget(budgets) : budgets[0];',
    changes: ['budgets.length > 1 → budgets.length >= 1'],
    reason: 'Speed only: several budgets as one, of which there is one.',
  },
  {
    file: 'throttle',
    line: 'return now > this.#latest ? (this.#latest = now) : this.#latest;',
    changes: ['now > this.#latest → now >= this.#latest'],
    reason: 'Equivalent: it sets what is there.',
  },
  {
    file: 'throttle',
    line: 'if (this.#queue.size > 0) this.#drain(now ?? this.#now());',
    changes: ['this.#queue.size > 0 → true', 'this.#queue.size > 0 → this.#queue.size >= 0'],
    reason: 'Speed only: with nobody in it, the queue is drained of nobody.',
  },
  {
    file: 'throttle',
    line: 'if (this.#wakesAt - this.#now() <= timeout * ROUNDING) this.#latest = Math.max(this.#latest, this.#wakesAt);',
    changes: ['this.#wakesAt - this.#now() <= timeout * ROUNDING → this.#wakesAt - this.#now() < timeout * ROUNDING'],
    reason: 'Equivalent but where rounding is off by exactly what is allowed for it.',
  },
  {
    file: 'throttle',
    line: 'if (this.#onIdle.length > 0) for (const resolve of this.#onIdle.splice(0)) resolve();',
    changes: ['this.#onIdle.length > 0 → true', 'this.#onIdle.length > 0 → this.#onIdle.length >= 0'],
    reason: 'Speed only: nobody is told.',
  },
  {
    file: 'throttle',
    line: 'if (difference > 0) this.#spent += difference;',
    changes: ['difference > 0 → difference >= 0'],
    reason: 'Equivalent: it adds nothing.',
  },
  {
    file: 'throttle',
    line: 'const reached = elapsed >= 0 && elapsed < delay ? now + elapsed : at;',
    changes: ['elapsed < delay → true', 'elapsed < delay → elapsed <= delay'],
    reason:
      'Rounding alone: a timer that fired in time has its instant reached, give or take an error that sets it once more.',
  },
  {
    file: 'throttle',
    line: 'if (reached > this.#latest) this.#latest = reached;',
    changes: ['reached > this.#latest → reached >= this.#latest'],
    reason: 'Equivalent: it sets what is there.',
  },
  {
    file: 'throttle',
    line: 'if (timeout === 0 || (timeout < Infinity && timeout * (1 + ROUNDING) < this.#estimate(now, cost))) throw this.#turnedAway(cost, late(now));',
    changes: ['timeout < Infinity → true', 'timeout < Infinity → timeout <= Infinity'],
    reason: 'Speed only: nothing is longer than Infinity, but finding that out takes an estimate.',
  },
  {
    file: 'throttle',
    line: 'if (timeout === 0 || (timeout < Infinity && timeout * (1 + ROUNDING) < this.#estimate(now, cost))) throw this.#turnedAway(cost, late(now));',
    changes: [
      'timeout * (1 + ROUNDING) < this.#estimate(now, cost) → timeout * (1 + ROUNDING) <= this.#estimate(now, cost)',
    ],
    reason: 'Equivalent but where a timeout is off by exactly what is allowed for rounding.',
  },
  {
    file: 'throttle',
    line: 'const exits = signal === undefined && timeout === Infinity ? undefined : { signal, timeout, late: () => late(this.#now()) };',
    changes: ['signal === undefined && timeout === Infinity → false'],
    reason: 'Speed only: exits that lead nowhere.',
  },
  {
    file: 'throttle',
    line: 'return new ThrottleClosedError(`${this.#label()} is closed`, { cause: this.#closed?.reason });',
    changes: ['this.#closed?.reason → this.#closed.reason'],
    reason: 'Never so: whoever is told that it is closed is told so when it is. It is for the types.',
  },
  {
    file: 'queue',
    line: 'if (known === undefined || !known.delete(leave) || known.size > 0) return;',
    changes: ['known === undefined → false'],
    reason: 'Never so: only who listens on a signal stops listening. It is for the types.',
  },
  {
    file: 'queue',
    line: 'for (const leave of leavers.get(event.target as AbortSignal) ?? []) reviews.add(leave());',
    changes: ['[] → ["Stryker was here"]'],
    reason: 'Never so: the listener goes with the last who waits on the signal. It is for the types.',
  },
  {
    file: 'queue',
    line: 'fn === undefined',
    changes: ['fn === undefined → true'],
    reason: 'Memory only: a job would carry a rejecting function, too.',
  },
  {
    file: 'queue',
    line: 'for (const waiter of this.#places.slice(this.#first)) {',
    changes: ['this.#places.slice(this.#first) → this.#places'],
    reason: 'Speed only: the holes in front are passed over one by one.',
  },
  {
    file: 'queue',
    line: 'else if (this.#places.length > 2 * this.#size + 64) this.#restart(this.#places.filter((place) => place !== undefined));',
    changes: ['this.#places.length > 2 * this.#size + 64 → false'],
    reason:
      'Memory only: holes are never closed while somebody waits. A test with half a million waiters, which mutants are spared, sees it.',
  },
  {
    file: 'queue',
    line: 'else if (this.#places.length > 2 * this.#size + 64) this.#restart(this.#places.filter((place) => place !== undefined));',
    changes: [
      'this.#places.length > 2 * this.#size + 64 → this.#places.length >= 2 * this.#size + 64',
      '2 * this.#size + 64 → 2 * this.#size - 64',
      'this.#places.length > 2 * this.#size + 64 → true',
    ],
    reason: 'Speed only: the holes are closed a little earlier or later.',
  },
  {
    file: 'queue',
    line: `this.refuse(waiter, () => signal?.reason, 'aborted');`,
    changes: ['signal?.reason → signal.reason'],
    reason: 'Never so: nobody leaves by a signal who has none. It is for the types.',
  },
  {
    file: 'queue',
    line: 'if (signal !== undefined) removeAbortListener(signal, leave);',
    changes: ['signal !== undefined → true'],
    reason: 'Equivalent: nobody listens on undefined.',
  },
  {
    file: 'bucket',
    line: '#at = -Infinity;',
    changes: ['-Infinity → +Infinity'],
    reason: 'Never read: the constructor sets it. It makes the field one of numbers from the first.',
  },
  {
    file: 'bucket',
    line: 'constructor(capacity: number, period: number, burst: number, tokens: number = burst, now: number = -Infinity) {',
    changes: ['-Infinity → +Infinity'],
    reason: 'Never used: without an instant there are no tokens given either, and a full bucket asks for none.',
  },
  {
    file: 'bucket',
    line: 'if (cost - level <= this.#slack) return from;',
    changes: ['cost - level <= this.#slack → cost - level < this.#slack'],
    reason: 'Equivalent but where rounding is off by exactly the slack.',
  },
  {
    file: 'bucket',
    line: 'if (cost - level > this.#slack && this.readyAt(now, cost) > now) return false;',
    changes: ['cost - level > this.#slack → true', 'cost - level > this.#slack → cost - level >= this.#slack'],
    reason: 'Speed only: readyAt would say the same.',
  },
  {
    file: 'bucket',
    line: 'if (now > this.#at) this.#at = now;',
    changes: ['now > this.#at → now >= this.#at'],
    reason: 'Equivalent: it sets what is there.',
  },
  {
    file: 'bucket',
    line: 'this.#tokens = difference > 0 ? level - difference : Math.max(level, Math.min(level - difference, this.burst - since));',
    changes: ['difference > 0 → difference >= 0'],
    reason: 'Equivalent: a permit that is settled at its cost tells nobody.',
  },
  {
    file: 'window',
    line: 'const at = over > this.#slack ? Math.max(from, this.#leaves(over - this.#slack)) : from;',
    changes: ['over > this.#slack → over >= this.#slack'],
    reason: 'Equivalent but where the sum is off by exactly the slack, which is there for rounding.',
  },
  {
    file: 'window',
    line: 'if (this.#corrected <= this.#gone) index = this.#find(this.#gone + cost);',
    changes: ['this.#corrected <= this.#gone → false', 'this.#corrected <= this.#gone → this.#corrected < this.#gone'],
    reason: 'Speed only: adding up the costs finds what bisection finds where none was corrected.',
  },
  {
    file: 'window',
    line: 'else for (let left = cost - (this.#costs[index] ?? 0); left > 0 && index < this.#times.length - 1; ) left -= this.#costs[++index] as number;',
    changes: ['left > 0 → left >= 0'],
    reason: 'Equivalent but where rounding is off by exactly the slack.',
  },
  {
    file: 'window',
    line: 'else for (let left = cost - (this.#costs[index] ?? 0); left > 0 && index < this.#times.length - 1; ) left -= this.#costs[++index] as number;',
    changes: [
      'index < this.#times.length - 1 → true',
      'index < this.#times.length - 1 → index <= this.#times.length - 1',
      'this.#times.length - 1 → this.#times.length + 1',
    ],
    reason: 'A guard against rounding alone: the costs that count never add up to less than what has to leave.',
  },
  {
    file: 'window',
    line: 'if ((this.#marks[middle] as number) < mark) low = middle + 1;',
    changes: ['(this.#marks[middle] as number) < mark → this.#marks[middle] as number <= mark'],
    reason: 'Equivalent: what is looked for is within a grant, or short of a mark by the slack, never a mark.',
  },
  {
    file: 'window',
    line: 'if (this.#total + cost - this.burst > 2 * this.#slack) return false;',
    changes: ['this.#total + cost - this.burst > 2 * this.#slack → this.#total + cost - this.burst >= 2 * this.#slack'],
    reason: 'Equivalent but where the sum is off by exactly twice the slack, which is there for rounding.',
  },
  {
    file: 'window',
    line: 'if (difference > 0) return this.#add(now, difference);',
    changes: ['difference > 0 → difference >= 0'],
    reason: 'Equivalent: a permit that is settled at its cost tells nobody.',
  },
  {
    file: 'window',
    line: 'if (point <= this.#gone) return;',
    changes: ['point <= this.#gone → point < this.#gone'],
    reason: 'Equivalent: the point is within a grant, and no grant is partly gone.',
  },
  {
    file: 'window',
    line: 'while (this.#times.length > this.#first && (this.#costs.at(-1) as number) <= this.#slack) {',
    changes: ['(this.#costs.at(-1) as number) <= this.#slack → this.#costs.at(-1) as number < this.#slack'],
    reason: 'Equivalent but where rounding is off by exactly the slack.',
  },
  {
    file: 'window',
    line: 'this.#total -= this.#costs.pop() as number;',
    changes: ['this.#total -= this.#costs.pop() as number → this.#total += this.#costs.pop() as number'],
    reason: 'Rounding alone: nothing else is left of a cost that was corrected to nothing.',
  },
  {
    file: 'window',
    line: 'while (first < length && (this.#times[first] as number) + this.#span <= now) this.#total -= this.#costs[first++] as number;',
    changes: ['first < length → true', 'first < length → first <= length'],
    reason: 'Equivalent: there is no instant behind the last, and nothing is later than that.',
  },
  {
    file: 'window',
    line: 'if (first > length / 2) this.#compact();',
    changes: ['first > length / 2 → first >= length / 2'],
    reason: 'Speed only: what has left is forgotten a little earlier or later.',
  },
  {
    file: 'window',
    line: 'this.#corrected -= this.#gone;',
    changes: ['this.#corrected -= this.#gone → this.#corrected += this.#gone'],
    reason: 'Speed only: a mark too high has costs added up where bisection would do.',
  },
  {
    file: 'clock',
    line: 'now: () => (setTimeout === originalTimer ? original : performance).now() / 1000,',
    changes: ['setTimeout === originalTimer → false'],
    reason: 'Speed only: the one that is held is the one that would be looked up.',
  },
  {
    file: 'rate',
    line: 'export function createBudget(rate: Rate, where: string, now: number = -Infinity, before?: Budget): Budget | undefined {',
    changes: ['-Infinity → +Infinity'],
    reason: 'Never used: without an instant there is no budget before it, and a full bucket asks for none.',
  },
  {
    file: 'map',
    line: 'const abort = (): void => fail(signal?.reason);',
    changes: ['signal?.reason → signal.reason'],
    reason: 'Never so: whoever is aborted has a signal. It is for the types.',
  },
  {
    file: 'channels',
    line: `return REASONS[(error as { code?: string }).code ?? ''] ?? 'cost';`,
    changes: [`'' → "Stryker was here!"`],
    reason: 'Equivalent: neither is a code of ours.',
  },
  {
    file: 'channels',
    line: 'if (granted.hasSubscribers || released.hasSubscribers) idOf(permit, place);',
    changes: ['granted.hasSubscribers || released.hasSubscribers → true'],
    reason: 'Speed only: a number that nobody is told.',
  },
  {
    file: 'keyed',
    line: 'if ((++this.#calls & 15) === 0) this.#sweep(48);',
    changes: [
      '(++this.#calls & 15) === 0 → true',
      '(++this.#calls & 15) === 0 → (++this.#calls & 15) !== 0',
      '++this.#calls → --this.#calls',
    ],
    reason: 'Speed only: it sweeps more often, or at other calls.',
  },
  {
    file: 'keyed',
    line: 'for (let next = this.#resting.first; next !== undefined && next.freshFrom <= now && count < most; next = this.#resting.first, count++) {',
    changes: ['count < most → true', 'count < most → count <= most'],
    reason: 'Speed only: more is looked at in one call.',
  },
  {
    file: 'keyed',
    line: 'if (place < 0) return;',
    changes: ['place < 0 → false'],
    reason: 'After close alone, when nobody looks at the heap any more.',
  },
  {
    file: 'keyed',
    line: 'if (last !== undefined && last !== item) this.#sift(last, place);',
    changes: ['last !== undefined → true'],
    reason: 'Never so: who has a place is in the heap, so it is not empty. It is for the types.',
  },
  {
    file: 'keyed',
    line: 'for (let parent; place > 0 && item.freshFrom < (items[(parent = (place - 1) >> 1)] as T).freshFrom; place = parent) this.#set(place, items[parent] as T);',
    changes: [
      'item.freshFrom < (items[(parent = (place … as T).freshFrom → item.freshFrom <= (items[parent = place  … as T).freshFrom',
    ],
    reason: 'Equivalent: which of two that are fresh from the same instant comes first makes no difference.',
  },
  {
    file: 'keyed',
    line: 'if (child + 1 < items.length && (items[child + 1] as T).freshFrom < (items[child] as T).freshFrom) child++;',
    changes: [
      '(items[child + 1] as T).freshFrom < (ite … as T).freshFrom → (items[child + 1] as T).freshFrom <= (it … as T).freshFrom',
    ],
    reason: 'Equivalent: which of two that are fresh from the same instant comes first makes no difference.',
  },
  {
    file: 'keyed',
    line: 'if (item.freshFrom <= (items[child] as T).freshFrom) break;',
    changes: ['item.freshFrom <= (items[child] as T).freshFrom → item.freshFrom < (items[child] as T).freshFrom'],
    reason: 'Equivalent: which of two that are fresh from the same instant comes first makes no difference.',
  },
  {
    file: 'limiter',
    line: 'if (place < last) {',
    changes: ['place < last → place <= last'],
    reason: 'Equivalent: whoever is listed twice in a row was refused in the line before.',
  },
  {
    file: 'headers',
    line: `const bare = text.replaceAll(/"(?:[^"\\\\]|\\\\.?)*(?:"|$)/g, '');`,
    changes: [`'' → "Stryker was here!"`],
    reason: 'Equivalent: whatever stands in place of a quoted name has no comma, semicolon or "reset=" in it.',
  },
  {
    file: 'headers',
    line: 'if (text === null) return undefined;',
    changes: ['text === null → false'],
    reason: 'Equivalent: what is of no form of a date is none, and "null" is not. The line is for the types.',
  },
  {
    file: 'headers',
    line: `const { day = '', month = '', year = '', time = '' } = parts;`,
    changes: [`'' → "Stryker was here!"`],
    reason: 'Never used: each of the expressions has all four groups. The defaults are for the types.',
  },
  {
    file: 'headers',
    line: `return /^\\d+(?:\\.\\d+)?$/.test(text ?? '') ? Math.min(MOST, Number(text)) : undefined;`,
    changes: [`'' → "Stryker was here!"`],
    reason: 'Equivalent: neither is a number.',
  },
  {
    file: 'fetch',
    line: 'await response?.body?.cancel();',
    changes: ['response?.body?.cancel → response?.body.cancel', 'response?.body → response.body'],
    reason: 'Equivalent: an error is caught, as that of a body that is broken off.',
  },
  {
    file: 'fetch',
    line: '} catch {',
    changes: ['{ return undefined; } → {}'],
    reason: 'Equivalent: nothing is returned either way.',
  },
  {
    file: 'fetch',
    line: 'if (headers instanceof Headers) return new Headers(headers);',
    changes: ['headers instanceof Headers → false'],
    reason: 'Equivalent: a list of pairs says the same.',
  },
  {
    file: 'body',
    line: 'if (copy[fact] !== original[fact]) Object.defineProperty(copy, fact, { value: original[fact], configurable: true });',
    changes: ['copy[fact] !== original[fact] → true'],
    reason: 'Speed only: it says of itself what it says already.',
  },
];
