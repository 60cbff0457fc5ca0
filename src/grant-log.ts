/**
 * What a token bucket remembers of its grants, so that the cost of one can be corrected later. The level that a
 * correction leaves is the level of a replay: the bucket of the first instant, every grant at its own instant with its
 * true cost, the refill in between, and the overflow of a full bucket. Pure arithmetic, without a clock. Instants are
 * seconds.
 *
 * Memory is bounded. The latest grants are kept one by one, and a replay over them is exact. Older grants are folded into
 * two things: the level after them, and the peaks of the level among them, which is a monotone stack of suffix maxima.
 * With these, a refund of an older grant is exact, too: of a refund, as much survives as the highest level since the
 * grant has left room for. A debt of an older grant is charged in full, although an overflow may have paid part of it.
 */

/** The limits of a bucket. */
export interface BucketLimits {
  /** Tokens per second. */
  readonly rate: number;
  /** The most that the bucket holds. */
  readonly burst: number;
}

/** The state with which the log begins. */
interface Base {
  /** The instant at which the bucket's history began. */
  readonly beganAt: number;
  /** The level before the first grant in the log, the instant at which it was true, and the number of the last grant before it. */
  level: number;
  at: number;
  serial: number;
  /**
   * The peaks among the folded grants, two numbers each: the number of the last grant before the peak, and the room that
   * was left in the bucket then.
   */
  peaks: number[];
}

/** How many grants are kept one by one at most. */
const MOST = 512;
/** How many peaks are kept at most. */
const MOST_PEAKS = 32;

/** The numbers of one grant in the array: the instant, the cost, and the number of the last grant at that instant. */
const WORDS = 3;

export class GrantLog {
  /** The grants kept one by one, three numbers each (one array weighs less than three), and how many numbers of it are in use. */
  #grants: number[] = [];
  #length = 0;
  /** Absent while nothing is folded, for a bucket that started full. */
  #base: Base | undefined;

  /** With arguments: at the instant `at`, after the grant `serial`, the bucket holds `level`. Otherwise it starts full. */
  constructor(level?: number, at: number = 0, serial: number = 0) {
    if (level !== undefined) this.#base = { beganAt: at, level, at, serial, peaks: [] };
  }

  /** The instant at which the history begins; `undefined` before the first grant of a bucket that started full. */
  get beganAt(): number | undefined {
    return this.#base?.beganAt ?? this.#grants[0];
  }

  /** The instant of the latest grant, or of the beginning. */
  get latestAt(): number {
    return this.#length > 0 ? (this.#grants[this.#length - WORDS] as number) : (this.#base?.at ?? -Infinity);
  }

  add(at: number, cost: number, serial: number, limits: BucketLimits): void {
    const grants = this.#grants;
    const length = this.#length;
    if (length > 0 && at <= (grants[length - WORDS] as number)) {
      // Grants of one instant are one entry: nothing refills in between.
      (grants[length - WORDS + 1] as number) += cost;
      grants[length - WORDS + 2] = serial;
      return;
    }
    grants[length] = at;
    grants[length + 1] = cost;
    grants[length + 2] = serial;
    this.#length = length + WORDS;
    if (length >= MOST * WORDS) this.#fold(limits);
  }

  /** Corrects the cost of the grant `serial` by `difference`. */
  correct(serial: number, difference: number): void {
    if (this.#base !== undefined && serial <= this.#base.serial) return correctFolded(this.#base, serial, difference);
    const grants = this.#grants;
    let low = 0;
    for (let high = this.#length / WORDS - 1; low < high; ) {
      const middle = (low + high) >> 1;
      if ((grants[middle * WORDS + 2] as number) < serial) low = middle + 1;
      else high = middle;
    }
    (grants[low * WORDS + 1] as number) += difference;
  }

  /** Corrects the level with which the history began by `difference`. A history that began full, at `at`, does so no more. */
  correctBeginning(at: number, difference: number, limits: BucketLimits): void {
    this.#base ??= { beganAt: at, level: limits.burst, at, serial: 0, peaks: [] };
    correctFolded(this.#base, -1, -difference);
  }

  /** The level right after the latest grant. */
  replay(limits: BucketLimits): number {
    return this.#replay(limits, this.#length);
  }

  /** Replays the first `end` numbers of the log. With `rooms`, it writes down the room that was left before each grant. */
  #replay({ rate, burst }: BucketLimits, end: number, rooms?: Float64Array): number {
    const grants = this.#grants;
    let level = this.#base === undefined ? burst : this.#base.level;
    let at = this.#base === undefined ? -Infinity : this.#base.at;
    for (let offset = 0; offset < end; offset += WORDS) {
      const time = grants[offset] as number;
      if (time > at) level = Math.min(burst, level + (time - at) * rate);
      if (rooms !== undefined) rooms[offset / WORDS] = burst - level;
      level -= grants[offset + 1] as number;
      at = time;
    }
    return level;
  }

  /** Folds the older half of the log into the base. */
  #fold(limits: BucketLimits): void {
    const grants = this.#grants;
    const count = MOST / 2;
    const level = this.#replay(limits, count * WORDS, folded);
    const { beganAt, serial, peaks: older } = this.#base ?? { beganAt: grants[0] as number, serial: 0, peaks: [] };
    // From the end: a peak is seen where it leaves less room than all that come after it.
    const peaks: number[] = [];
    let least = Infinity;
    for (let index = count - 1; index >= 0; index--) {
      const room = folded[index] as number;
      if (room >= least) continue;
      least = room;
      peaks.push(room, index === 0 ? serial : (grants[index * WORDS - 1] as number));
    }
    for (let index = older.length - 2; index >= 0; index -= 2) if ((older[index + 1] as number) < least) peaks.push(older[index + 1] as number, older[index] as number);
    const end = count * WORDS;
    this.#base = { beganAt, level, at: grants[end - WORDS] as number, serial: grants[end - 1] as number, peaks: bounded(peaks.toReversed()) };
    // In place: an array that shrinks and grows again would be copied each time.
    for (let offset = end; offset < this.#length; offset++) grants[offset - end] = grants[offset] as number;
    this.#length -= end;
  }
}

/** Where a log writes down the room left before each grant that it folds. */
const folded = new Float64Array(MOST);

/** If there are too many peaks, merges the older half in pairs, strictly: the higher peak counts for every grant before the later one. */
function bounded(peaks: number[]): number[] {
  if (peaks.length <= 2 * MOST_PEAKS) return peaks;
  const merged: number[] = [];
  for (let index = 0; index < MOST_PEAKS; index += 4) merged.push(peaks[index + 2] as number, peaks[index + 1] as number);
  return [...merged, ...peaks.slice(MOST_PEAKS)];
}

/** Corrects the cost of a folded grant by `difference`. */
function correctFolded(base: Base, serial: number, difference: number): void {
  const { peaks } = base;
  let next = 0;
  while (next < peaks.length && (peaks[next] as number) < serial) next += 2;
  // The first peak after a grant is the highest one after it.
  const change = Math.min(-difference, peaks[next + 1] ?? Infinity);
  base.level += change;
  for (let index = next; index < peaks.length; index += 2) (peaks[index + 1] as number) -= change;
  // A peak that has grown may hide lower ones before it.
  let hidden = next;
  while (next < peaks.length && hidden > 0 && (peaks[hidden - 1] as number) >= (peaks[next + 1] as number)) hidden -= 2;
  peaks.splice(hidden, next - hidden);
}
