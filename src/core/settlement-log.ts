/**
 * The grants of a token bucket, recorded so that the cost of a grant can be corrected later. The level after a
 * correction is the level of a replay. The replay starts with the first level of the bucket. It takes the true cost of
 * every grant at its instant, refills the bucket in between, and limits the level to the burst. Pure arithmetic without
 * a clock. Instants are in seconds.
 *
 * Memory is bounded. The log keeps the latest grants one by one; a replay of these grants is exact. Older grants are
 * folded into two values: the level after them, and the peaks of the level among them (a monotone stack of suffix
 * maxima). With the peaks, a refund of a folded grant is exact, too: the bucket recovers as much of the refund as the
 * highest level since the grant left room for. With more than a thousand peaks, a refund may fall short by a small
 * share of the burst. A debt of a folded grant is charged in full, although an overflow may have paid a part of the
 * debt. A debt from before the latest eight changes of the limits is also charged in full.
 */

/** The limits of a bucket. */
export interface BucketLimits {
  /** Tokens per second. */
  readonly rate: number;
  /** The largest number of tokens in the bucket. */
  readonly burst: number;
}

/** The state before the first grant of the ring. */
interface Base {
  /** The instant at which the history of the bucket begins. */
  readonly beganAt: number;
  /** The level after the last folded grant. */
  level: number;
  /** The instant of `level`. */
  at: number;
  /**
   * The peaks among the folded grants, two numbers per peak: the serial number of the last grant before the peak, and
   * the room in the bucket at the peak.
   */
  peaks: number[];
}

/** The largest number of grants in the ring: a power of two. */
const MAX_GRANTS = 512;
/** The largest number of peaks. */
const MAX_PEAKS = 1_024;

/** The numbers per grant in the ring: the instant and the cost. */
const WORDS = 2;

export class GrantLog {
  /** A ring of the latest grants, {@link WORDS} numbers per grant. One array uses less memory than two. */
  readonly #ring: number[] = [];
  /** The serial number of the last grant before the log began. */
  readonly #before: number;
  /** The serial number of the latest grant. */
  #latest: number;
  /** The serial number of the last folded grant. */
  #folded: number;
  /** `undefined` for a bucket that started full, until the first fold. */
  #base: Base | undefined;

  /**
   * The log begins after the grant `serial`, with `level` at the instant `at`. Without a `level`, the bucket starts
   * full.
   */
  constructor(serial: number, level?: number, at: number = 0) {
    this.#before = this.#latest = this.#folded = serial;
    if (level !== undefined) this.#base = { beganAt: at, level, at, peaks: [] };
  }

  /** The instant at which the history begins; `undefined` before the first grant of a bucket that started full. */
  get beganAt(): number | undefined {
    return this.#base?.beganAt ?? this.#ring[0];
  }

  /** The instant of the latest grant; without a grant, the instant at which the history begins. */
  get latestAt(): number {
    return this.#latest > this.#folded
      ? (this.#ring[this.#offsetOf(this.#latest)] as number)
      : (this.#base?.at ?? -Infinity);
  }

  /** The index of the numbers of a grant in the ring. */
  #offsetOf(serial: number): number {
    return ((serial - this.#before - 1) & (MAX_GRANTS - 1)) * WORDS;
  }

  /** Adds a grant. Serial numbers are consecutive. */
  add(at: number, cost: number, serial: number, limits: BucketLimits): void {
    if (serial - this.#folded > MAX_GRANTS) this.#fold(limits);
    const offset = this.#offsetOf(serial);
    this.#ring[offset] = at;
    this.#ring[offset + 1] = cost;
    this.#latest = serial;
  }

  /** Adds `difference` to the cost of the grant `serial`. */
  correct(serial: number, difference: number): void {
    if (serial > this.#folded) (this.#ring[this.#offsetOf(serial) + 1] as number) += difference;
    else if (this.#base !== undefined) correctFolded(this.#base, serial, difference);
  }

  /** Adds `difference` to the first level of the history. `at` is the first instant of a history that began full. */
  correctBeginning(at: number, difference: number, limits: BucketLimits): void {
    this.#base ??= { beganAt: at, level: limits.burst, at, peaks: [] };
    correctFolded(this.#base, this.#before, -difference);
  }

  /** The level directly after the latest grant. */
  replay(limits: BucketLimits): number {
    return this.#replay(limits, this.#latest);
  }

  /** Replays the grants up to `last`. Records the room in the bucket before each grant. */
  #replay({ rate, burst }: BucketLimits, last: number): number {
    const ring = this.#ring;
    let level = this.#base === undefined ? burst : this.#base.level;
    let at = this.#base === undefined ? -Infinity : this.#base.at;
    for (let serial = this.#folded + 1; serial <= last; serial++) {
      const offset = this.#offsetOf(serial);
      const time = ring[offset] as number;
      level = Math.min(burst, level + (time - at) * rate);
      rooms[serial - this.#folded - 1] = burst - level;
      level -= ring[offset + 1] as number;
      at = time;
    }
    return level;
  }

  /** Folds the older half of the ring into the base. */
  #fold(limits: BucketLimits): void {
    const last = this.#folded + MAX_GRANTS / 2;
    const level = this.#replay(limits, last);
    const beganAt = this.beganAt as number;
    const older = this.#base?.peaks ?? [];
    // From the end: a grant has a peak before it if the room there is smaller than at all later peaks.
    const peaks: number[] = [];
    let leastRoom = Infinity;
    for (let index = MAX_GRANTS / 2 - 1; index >= 0 && leastRoom > 0; index--) {
      const room = rooms[index] as number;
      if (room >= leastRoom) continue;
      leastRoom = room;
      peaks.push(this.#folded + index, room);
    }
    for (let index = older.length - 2; index >= 0; index -= 2)
      if ((older[index + 1] as number) < leastRoom) peaks.push(older[index] as number, older[index + 1] as number);
    this.#base = {
      beganAt,
      level,
      at: this.#ring[this.#offsetOf(last)] as number,
      peaks: mergePeaks(reversePairs(peaks), limits.burst),
    };
    this.#folded = last;
  }
}

/** The room in the bucket before each grant of the latest replay. */
const rooms = new Float64Array(MAX_GRANTS);

/** The pairs of numbers in reverse order. */
function reversePairs(pairs: readonly number[]): number[] {
  const ordered: number[] = [];
  for (let index = pairs.length - 2; index >= 0; index -= 2)
    ordered.push(pairs[index] as number, pairs[index + 1] as number);
  return ordered;
}

/**
 * Merges neighbouring peaks until at most {@link MAX_PEAKS} remain. The peaks of a pair differ by less than 1/512 of
 * the burst, or by a multiple of two if too many peaks remain. A merge never returns too many tokens: the higher peak
 * counts for every grant before the later peak.
 */
function mergePeaks(peaks: number[], burst: number): number[] {
  for (let grain = burst / 512; peaks.length > 2 * MAX_PEAKS; grain *= 2) {
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

/** Adds `difference` to the cost of a folded grant. */
function correctFolded(base: Base, serial: number, difference: number): void {
  const { peaks } = base;
  let next = 0;
  while (next < peaks.length && (peaks[next] as number) < serial) next += 2;
  // The first peak after a grant is the highest peak after that grant.
  const change = Math.min(-difference, peaks[next + 1] ?? Infinity);
  base.level += change;
  for (let index = next; index < peaks.length; index += 2) (peaks[index + 1] as number) -= change;
  // After a refund, the corrected peaks are higher. Remove the earlier peaks that are not higher than the first of
  // them.
  let hidden = next;
  while (next < peaks.length && hidden > 0 && (peaks[hidden - 1] as number) >= (peaks[next + 1] as number)) hidden -= 2;
  peaks.splice(hidden, next - hidden);
}
