/**
 * Lowers the levels of a gate to what the upstream reports as remaining.
 *
 * An upstream counts a request when the request arrives, and reports what remained at that instant. It cannot have
 * counted requests that were sent later. The gate has charged these requests already, so the level of the gate and the
 * reported number describe different instants. Therefore the tokens of the later requests are subtracted from the
 * reported number. Two groups of requests are left out:
 *
 * - Requests that were sent earlier and still wait for a response. They have arrived already.
 * - Requests that were sent later and have a response. Their own responses counted them, and have lowered the levels.
 *
 * Responses may arrive in any order. Each one can only lower a level, so an old response does no harm to a newer one.
 */
import { type Cost, checkLevel } from '../core/cost.js';
import type { Permit } from '../core/permit.js';
import { isPromiseLike } from '../core/promise-like.js';
import { invalid } from '../core/validation.js';
import { warnOnce } from '../core/warning.js';
import { readRemaining } from '../web/remaining.js';
import type { CalledGate } from './keyed-gate.js';
import type { ResponseLike, Settings } from './options.js';

/** A request that was sent and has no response yet. */
export interface CountedRequest<K> {
  readonly key: K;
  readonly permit: Permit;
  /** The position in the order of sending. */
  readonly position: number;
}

/** The response of a sender, with the type that the caller's `learn` expects. */
type Learned = Pick<ResponseLike, 'headers'>;

/** The requests in flight by key, and the levels that their responses report. */
export class Learner<K> {
  readonly #gate: CalledGate<K>;
  readonly #learn: NonNullable<Settings['learn']>;
  /** In the order of sending. */
  readonly #inFlight = new Map<K, Set<CountedRequest<K>>>();
  #count = 0;

  constructor(gate: CalledGate<K>, learn: NonNullable<Settings['learn']>) {
    this.#gate = gate;
    this.#learn = learn;
  }

  /** Records that a request is being sent. */
  begin(key: K, permit: Permit): CountedRequest<K> {
    const request = { key, permit, position: ++this.#count };
    const requests = this.#inFlight.get(key);
    if (requests === undefined) this.#inFlight.set(key, new Set([request]));
    else requests.add(request);
    return request;
  }

  /** Records that a request has its response, or has failed. */
  end(request: CountedRequest<K>): void {
    const requests = this.#inFlight.get(request.key);
    if (requests?.delete(request) && requests.size === 0) this.#inFlight.delete(request.key);
  }

  /**
   * Lowers the levels of `key` to what the response reports. Never throws.
   *
   * @param key The key of the origin that responded. It differs from the key of the request after a redirect.
   */
  learn(request: CountedRequest<K>, response: Learned, key: () => K): void {
    this.end(request);
    try {
      const reported = this.#learn === true ? this.#read(request, response) : this.#learn(response as Response);
      if (isPromiseLike(reported)) {
        reported.then(undefined, () => {});
        throw invalid('learn', 'a function that returns levels or undefined', reported);
      }
      if (reported === undefined) return;
      const responding = key();
      const levels = this.#withoutLater(request, responding, reported);
      const result: unknown = this.#gate.correct?.(responding, levels, { onlyLower: true });
      if (isPromiseLike(result)) result.then(undefined, warn);
    } catch (error) {
      warn(error);
    }
  }

  /** The reported levels of the rates that the gate has. The permit knows the names of the rates. */
  #read({ permit }: CountedRequest<K>, { headers }: Learned): Cost | undefined {
    const names = new Set(['cost', ...Object.keys(permit.costs ?? {})]);
    const known = Object.entries(headers ? readRemaining(headers) : {}).filter(([name]) => names.has(name));
    return known.length === 0 ? undefined : Object.fromEntries(known);
  }

  /** The levels after the requests of the key that were sent later and have no response yet. */
  #withoutLater({ position }: CountedRequest<K>, key: K, levels: Cost): Cost {
    const later = [...(this.#inFlight.get(key) ?? [])].filter((request) => request.position > position);
    const sum = (name: string): number =>
      later.reduce((total, { permit }) => total + (name === 'cost' ? permit.cost : (permit.costs?.[name] ?? 0)), 0);
    if (typeof levels !== 'object' || levels === null) return checkedLevel('learn', levels) - sum('cost');
    const entries = Object.entries(levels).flatMap(([name, level]) =>
      level === undefined ? [] : [[name, checkedLevel(`learn.${name}`, level) - sum(name)]],
    );
    return Object.fromEntries(entries) as Cost;
  }
}

/** Another value would count as a number in a subtraction. */
function checkedLevel(name: string, level: number): number {
  checkLevel(name, level);
  return level;
}

function warn(error: unknown): void {
  warnOnce(
    'HEADGATE_LEARN_FAILED',
    `throttledFetch could not lower the levels of its gate to what a response reports, and went on without it: ${String(error)}`,
  );
}
