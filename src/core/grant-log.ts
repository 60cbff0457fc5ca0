/**
 * What a token bucket remembers of its grants, so that the cost of one can be corrected later. The level that a
 * correction leaves is the level of a replay: the bucket of the first instant, every grant at its own instant with its
 * true cost, the refill in between, and the overflow of a full bucket. Pure arithmetic, without a clock. Instants are
 * seconds.
 *
 * Memory is bounded. The latest grants are kept one by one, and a replay over them is exact. Older grants are folded into
 * two things: the level after them, and the peaks of the level among them, which is a monotone stack of suffix maxima.
 * With these, a refund of an older grant is exact, too: of a refund, as much survives as the highest level since the
 * grant has left room for. Only where there are more than a thousand peaks, it may fall short by a share of the burst. A
 * debt of an older grant is charged in full, although an overflow may have paid part of it; so is one from before more than
 * eight changes of the limits.
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
  /** The level after the last folded grant, and the instant at which it was true. */
  level: number;
  at: number;
  /**
   * The peaks among the folded grants, two numbers each: the number of the last grant before the peak, and the room that
   * was left in the bucket then.
   */
  peaks: number[];
}

/** How many grants are kept one by one at most: a power of two. */
const MOST = 512;
/** How many peaks are kept at most. */
const MOST_PEAKS = 1_024;

/** The numbers of one grant: the instant and the cost. */
const WORDS = 2;

export class GrantLog {
  /** The latest grants, a ring of {@link WORDS} numbers each, by their serial numbers: one array weighs less than two. */
  readonly #ring: number[] = [];
  /** The serial number of the last grant before the first in the ring, that of the latest one, and that of the last folded one. */
  readonly #before: number;
  #latest: number;
  #folded: number;
  /** Absent while nothing is folded, for a bucket that started full. */
  #base: Base | undefined;

  /** After the grant `serial`. With a `level`, that is what the bucket holds at the instant `at`. Otherwise it starts full. */
  constructor(serial: number, level?: number, at: number = 0) {
    this.#before = this.#latest = this.#folded = serial;
    if (level !== undefined) this.#base = { beganAt: at, level, at, peaks: [] };
  }

  /** The instant at which the history begins; `undefined` before the first grant of a bucket that started full. */
  get beganAt(): number | undefined {
    return this.#base?.beganAt ?? this.#ring[0];
  }

  /** The instant of the latest grant, or of the beginning. */
  get latestAt(): number {
    return this.#latest > this.#folded
      ? (this.#ring[this.#offsetOf(this.#latest)] as number)
      : (this.#base?.at ?? -Infinity);
  }

  /** Where the numbers of a grant are. */
  #offsetOf(serial: number): number {
    return ((serial - this.#before - 1) & (MOST - 1)) * WORDS;
  }

  /** Adds a grant. Serial numbers follow one another. */
  add(at: number, cost: number, serial: number, limits: BucketLimits): void {
    if (serial - this.#folded > MOST) this.#fold(limits);
    const offset = this.#offsetOf(serial);
    this.#ring[offset] = at;
    this.#ring[offset + 1] = cost;
    this.#latest = serial;
  }

  /** Corrects the cost of the grant `serial` by `difference`. */
  correct(serial: number, difference: number): void {
    if (serial > this.#folded) (this.#ring[this.#offsetOf(serial) + 1] as number) += difference;
    else if (this.#base !== undefined) correctFolded(this.#base, serial, difference);
  }

  /** Corrects the level with which the history began by `difference`. A history that began full, at `at`, does so no more. */
  correctBeginning(at: number, difference: number, limits: BucketLimits): void {
    this.#base ??= { beganAt: at, level: limits.burst, at, peaks: [] };
    correctFolded(this.#base, -1, -difference);
  }

  /** The level right after the latest grant. */
  replay(limits: BucketLimits): number {
    return this.#replay(limits, this.#latest);
  }

  /** Replays the grants up to `last`. Writes down the room that was left before each. */
  #replay({ rate, burst }: BucketLimits, last: number): number {
    const ring = this.#ring;
    let level = this.#base === undefined ? burst : this.#base.level;
    let at = this.#base === undefined ? -Infinity : this.#base.at;
    for (let serial = this.#folded + 1; serial <= last; serial++) {
      const offset = this.#offsetOf(serial);
      const time = ring[offset] as number;
      if (time > at) level = Math.min(burst, level + (time - at) * rate);
      rooms[serial - this.#folded - 1] = burst - level;
      level -= ring[offset + 1] as number;
      at = time;
    }
    return level;
  }

  /** Folds the older half of the log into the base. */
  #fold(limits: BucketLimits): void {
    const last = this.#folded + MOST / 2;
    const level = this.#replay(limits, last);
    const beganAt = this.#base?.beganAt ?? this.#ring[0] ?? -Infinity;
    const older = this.#base?.peaks ?? [];
    // From the end: a peak is seen where it leaves less room than all that come after it.
    const peaks: number[] = [];
    let least = Infinity;
    for (let index = MOST / 2 - 1; index >= 0 && least > 0; index--) {
      const room = rooms[index] as number;
      if (room >= least) continue;
      least = room;
      peaks.push(this.#folded + index, room);
    }
    for (let index = older.length - 2; index >= 0; index -= 2)
      if ((older[index + 1] as number) < least) peaks.push(older[index] as number, older[index + 1] as number);
    this.#base = {
      beganAt,
      level,
      at: this.#ring[this.#offsetOf(last)] as number,
      peaks: bounded(inOrder(peaks), limits.burst),
    };
    this.#folded = last;
  }
}

/** Where a replay writes down the room left before each grant. */
const rooms = new Float64Array(MOST);

/** The pairs of numbers in reverse order. */
function inOrder(pairs: readonly number[]): number[] {
  const ordered: number[] = [];
  for (let index = pairs.length - 2; index >= 0; index -= 2)
    ordered.push(pairs[index] as number, pairs[index + 1] as number);
  return ordered;
}

/**
 * If there are too many peaks, merges neighbours that differ by less than a share of the burst: 1/512, or twice, four times
 * as much if that is not enough. Merging is strict: the higher peak counts for every grant before the later one.
 */
function bounded(peaks: number[], burst: number): number[] {
  for (let grain = burst / 512; peaks.length > 2 * MOST_PEAKS; grain *= 2) {
    const merged: number[] = [];
    for (let index = 0; index < peaks.length; index += 2) {
      const last = merged.length - 2;
      if (last >= 0 && (peaks[index + 1] as number) - (merged[last + 1] as number) < grain)
        merged[last] = peaks[index] as number;
      else merged.push(peaks[index] as number, peaks[index + 1] as number);
    }
    peaks = merged;
  }
  return peaks;
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
