/**
 * A model of a gate with several rates and weighted slots, written from the definition: a grant needs its slots and its
 * tokens of all rates at one instant, the first waiter comes first, and a settlement leaves the level that a request of
 * the true cost would have left. Each bucket replays its whole history (model/replay.ts). It has no bounds.
 */
import { BucketReplay, type LoggedGrant } from '../../model/replay.js';

/** A cost: a number for every rate, or the cost of the rates without a name and the costs by name. */
export type ReferenceCost = number | { readonly cost: number; readonly [name: string]: number };

export interface ReferenceBucket {
  readonly name?: string;
  /** Tokens per unit of time. */
  readonly capacity: number;
  readonly burst: number;
}

interface Call {
  readonly serial: string;
  readonly cost: ReferenceCost;
  readonly slots: number;
}

export interface ReferenceGrant extends Call {
  /** The numbers of the slots. */
  readonly held: number[];
  /** The entry of the grant in the history of each bucket. */
  readonly entries: LoggedGrant[];
  /** For each bucket, whether a later settlement counts: not after a correction. */
  readonly counts: boolean[];
  released: boolean;
}

export const costFor = (cost: ReferenceCost, { name }: ReferenceBucket): number =>
  typeof cost === 'number' ? cost : name === undefined ? cost.cost : (cost[name] ?? 0);

export class ReferenceRates {
  readonly buckets: readonly ReferenceBucket[];
  readonly replays: readonly BucketReplay[];
  readonly grants: ReferenceGrant[] = [];
  queue: Call[] = [];
  limit: number;
  now = 0;

  constructor(buckets: readonly ReferenceBucket[], limit: number) {
    this.buckets = buckets;
    this.replays = buckets.map(({ capacity, burst }) => new BucketReplay({ capacity, burst, period: 1 }));
    this.limit = limit;
  }

  get active(): number {
    return this.grants.reduce((sum, { released, slots }) => sum + (released ? 0 : slots), 0);
  }

  levels(): number[] {
    return this.replays.map((replay) => replay.level(this.now));
  }

  /** The time that the tokens require for a call behind the queue, in units. */
  wait(cost: ReferenceCost): number {
    const all = [...this.queue.map((call) => call.cost), cost];
    const instants = this.buckets.map((bucket, index) => {
      const sum = all.reduce<number>((total, each) => total + costFor(each, bucket), 0);
      return (this.replays[index] as BucketReplay).opensAt(this.now, sum);
    });
    return Math.max(this.now, ...instants) - this.now;
  }

  /** Returns what the caller receives at once: a grant, a place in the queue, or a refusal. */
  request(
    serial: string,
    cost: ReferenceCost,
    slots: number,
    mayWait: boolean,
  ): 'granted' | 'queued' | 'refused' | 'too large' {
    if (this.buckets.some((bucket) => costFor(cost, bucket) > bucket.burst)) return 'too large';
    const call = { serial, cost, slots };
    if (this.queue.length === 0 && this.#fits(call)) {
      this.#grant(call);
      return 'granted';
    }
    if (!mayWait) return 'refused';
    this.queue.push(call);
    return 'queued';
  }

  release(grant: ReferenceGrant): void {
    grant.released = true;
    this.drain();
  }

  settle(grant: ReferenceGrant, index: number, cost: number): void {
    const entry = grant.entries[index] as LoggedGrant;
    entry.cost = cost;
    if (grant.counts[index] === true) (this.replays[index] as BucketReplay).settled(entry);
  }

  correct(index: number, level: number, onlyLower: boolean): void {
    const replay = this.replays[index] as BucketReplay;
    const { burst } = this.buckets[index] as ReferenceBucket;
    const value = Math.min(level, burst);
    if (onlyLower) {
      // As a grant of the missing tokens to somebody else.
      const missing = replay.level(this.now) - value;
      if (missing > 0) replay.add({ at: this.now, cost: missing });
      return;
    }
    // Full at this instant, less what is missing.
    replay.forget(this.now);
    replay.add({ at: this.now, cost: burst - value });
    for (const grant of this.grants) grant.counts[index] = false;
  }

  drain(): void {
    for (let [head] = this.queue; head !== undefined && this.#fits(head); [head] = this.queue) {
      this.queue.shift();
      this.#grant(head);
    }
  }

  #fits({ cost, slots }: Call): boolean {
    return (
      this.active + slots <= this.limit &&
      this.buckets.every((bucket, index) => {
        const tokens = costFor(cost, bucket);
        return tokens === 0 || tokens <= (this.replays[index] as BucketReplay).level(this.now);
      })
    );
  }

  #grant(call: Call): void {
    const used = new Set(this.grants.flatMap(({ released, held }) => (released ? [] : held)));
    const held: number[] = [];
    for (let slot = 1; held.length < call.slots; slot++) if (!used.has(slot)) held.push(slot);
    const entries = this.buckets.map((bucket) => ({ at: this.now, cost: costFor(call.cost, bucket) }));
    for (const [index, entry] of entries.entries()) (this.replays[index] as BucketReplay).add(entry);
    this.grants.push({ ...call, held, entries, counts: this.buckets.map(() => true), released: false });
  }
}
