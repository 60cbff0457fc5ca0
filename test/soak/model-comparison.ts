/** Plays the same calls to a gate and to the reference model, and compares every outcome, instant and number. */
import assert from 'node:assert/strict';
import { getEventListeners } from 'node:events';
import { type Gate, type Limits, type Permit, type Rate, Throttle } from 'headgate';
import { ManualClock } from 'headgate/testing';
import { type Operation, type Outcome, outcomeOf, Reference } from '../model/reference.js';
import { type Tally, turn } from './part.js';

type Entry = [id: number, outcome: Outcome, waited: number];

/** The clock and the signals that all gates of a history share. */
export class World {
  readonly clock: ManualClock = new ManualClock();
  readonly tally: Tally;
  readonly aborts: unknown[] = [];
  readonly signals: AbortController[] = [0, 1, 2].map(() => new AbortController());
  /** All gates of the history, each with its model. */
  readonly gates: ComparedGate[] = [];
  #serial = 0;

  constructor(tally: Tally) {
    this.tally = tally;
  }

  nextId(): number {
    return this.#serial++;
  }

  /** Aborts a signal for every gate and every model. */
  abort(which: number): void {
    // A plain object: the stack trace of an error would cost more than the abort.
    const reason = { aborted: this.aborts.length };
    this.aborts.push(reason);
    const { signal } = this.signals[which] as AbortController;
    this.signals[which]?.abort(reason);
    assert.equal(getEventListeners(signal, 'abort').length, 0, 'listeners on a signal that has aborted');
    this.signals[which] = new AbortController();
    for (const { model } of this.gates) model.abort(which);
  }

  /** Waits one turn of the event loop, so that every consequence of an operation has happened. */
  async turn(): Promise<void> {
    await turn();
    for (const { model } of this.gates) model.turn();
  }

  /** Expects one listener on each signal that has waiters, and none on every other signal. */
  compareListeners(): void {
    this.signals.forEach(({ signal }, index) => {
      const waited = this.gates.some(({ model }) => model.queue.some((one) => one.signal === index));
      assert.equal(getEventListeners(signal, 'abort').length, waited ? 1 : 0, `listeners on signal ${index}`);
    });
  }

  /** Expects one timer for each head that needs only time, one for each deadline, and no other timer. */
  compareTimers(): void {
    const timers = this.gates.reduce((sum, { model }) => {
      const [head] = model.queue;
      const timed = head !== undefined && model.slotFree(head.id) && model.wait(head.cost) < Infinity ? 1 : 0;
      return sum + timed + model.queue.filter((one) => one.deadline < Infinity).length;
    }, 0);
    assert.equal(this.clock.pending, timers, 'timers');
  }
}

/** The calls that are compared: those of a throttle, or of one key of a keyed throttle. */
export type GateCalls = Pick<Gate, 'acquire' | 'run'> & {
  tryAcquire(cost: number): Permit | undefined;
  pause(seconds: number): void;
  resume(): void;
  configure(limits: Limits): void;
  /** Missing for keyed throttles. */
  estimateWait?(cost: number): number;
};

/** Promises of `idle` and `drain`. Each resolves at the first instant at which its condition holds, and not before. */
export class AwaitedPromises {
  readonly #entries: { readonly name: string; readonly isDue: () => boolean; expected: boolean; done: boolean }[] = [];

  follow(name: string, promise: Promise<void>, isDue: () => boolean): void {
    const entry = { name, isDue, expected: isDue(), done: false };
    this.#entries.push(entry);
    void promise.then(() => (entry.done = true));
  }

  /** Called after each operation. Within one operation, a queue does not grow again after it has become shorter. */
  compare(): void {
    for (const entry of this.#entries) {
      entry.expected ||= entry.isDue();
      assert.equal(entry.done, entry.expected, entry.name);
    }
  }
}

export class ComparedGate {
  readonly model: Reference;
  readonly #gate: GateCalls;
  readonly #world: World;
  readonly #log: Entry[] = [];
  #compared = 0;
  #lastGrant = -1;
  readonly #permits: Map<number, Permit> = new Map();
  /** Ends the job of a `run`. */
  readonly #finish: Map<number, () => void> = new Map();

  constructor(model: Reference, gate: GateCalls, world: World) {
    this.model = model;
    this.#gate = gate;
    this.#world = world;
    world.gates.push(this);
  }

  /** Applies one operation to gate and model. The caller applies operations that concern the whole world. */
  async play(operation: Operation): Promise<void> {
    const { model } = this;
    const gate = this.#gate;
    const id = this.#world.nextId();
    const held = model.pick(operation);
    switch (operation.do) {
      case 'acquire':
      case 'run': {
        const { cost, timeout, signal } = operation;
        const options = { timeout, signal: signal === undefined ? undefined : this.#world.signals[signal]?.signal };
        const estimate = cost <= model.size && !model.estimateIsExact(cost) ? gate.estimateWait?.(cost) : undefined;
        if (estimate !== undefined)
          assert.ok(
            estimate <= model.estimate(cost),
            `estimated a wait of ${estimate} s, although ${model.estimate(cost)} s are possible`,
          );
        model.acquire(id, cost, timeout, signal, operation.do === 'run', estimate);
        this.call(operation.do, id, cost, options);
        break;
      }
      case 'tryAcquire': {
        const { cost } = operation;
        if (cost > model.size) {
          assert.throws(() => gate.tryAcquire(cost), RangeError);
          break;
        }
        model.tryAcquire(id, cost);
        const permit = gate.tryAcquire(cost);
        if (permit === undefined) break;
        this.#permits.set(id, permit);
        this.#log.push([id, 'granted', 0]);
        break;
      }
      case 'release':
        if (held === undefined) break;
        if (this.#finish.has(held.id)) {
          // `run` releases after the promise of its function has settled, which is later than an abort in this tick.
          this.#finish.get(held.id)?.();
          if (operation.thenAbort !== undefined) this.#world.abort(operation.thenAbort);
          model.release(held);
          return this.#world.turn();
        }
        model.release(held);
        this.#permits.get(held.id)?.release();
        break;
      case 'settle':
        if (held === undefined || model.mayChargeInFull(held, operation.cost)) break;
        model.settle(held, operation.cost);
        if (operation.cost === 0) this.#permits.get(held.id)?.refund();
        else this.#permits.get(held.id)?.settle(operation.cost);
        break;
      case 'pause':
        gate.pause(operation.seconds);
        if (operation.seconds > 0) model.pausedUntil = Math.max(model.pausedUntil, model.time + operation.seconds);
        break;
      case 'resume':
        gate.resume();
        model.pausedUntil = 0;
        model.drain();
        break;
      case 'configure': {
        const { burst: _, ...withoutBurst } = operation.limits;
        // A sliding window has no burst.
        const limits = model.first.window === undefined ? operation.limits : withoutBurst;
        gate.configure(limits);
        model.configure(limits);
        break;
      }
      case 'abort':
      case 'clear':
      case 'idle':
      case 'drain':
      case 'close':
      case 'advance':
        throw new Error(`${operation.do} concerns the world`);
    }
    if (operation.thenAbort !== undefined) this.#world.abort(operation.thenAbort);
    await this.#world.turn();
  }

  /** Calls the gate alone, and records the outcome. */
  call(
    how: 'acquire' | 'run',
    id: number,
    cost: number,
    options: { timeout: number; signal: AbortSignal | undefined },
  ): void {
    const granted = (permit: Permit): void => {
      this.#permits.set(id, permit);
      this.#log.push([id, 'granted', permit.waited]);
    };
    const refused = (error: unknown): void => void this.#log.push([id, outcomeOf(error, this.#world.aborts), 0]);
    if (how === 'acquire') this.#gate.acquire(cost, options).then(granted, refused);
    else {
      const job = (permit: Permit): Promise<void> => {
        granted(permit);
        return new Promise((resolve) => this.#finish.set(id, resolve));
      };
      this.#gate.run(job, cost, options).catch(refused);
    }
  }

  /** Compares outcomes and waits since the last comparison, and checks that grants have the order of the calls. */
  compareOutcomes(): void {
    const { model } = this;
    const [real, expected] = [this.#log.slice(this.#compared), model.log.slice(this.#compared)];
    this.#compared = model.log.length;
    const byId = (entries: Entry[]): Entry[] => entries.toSorted(([a], [b]) => a - b);
    assert.deepEqual(byId(real), byId(expected), 'outcomes');
    const grants = real.filter(([, outcome]) => outcome === 'granted').map(([id]) => id);
    assert.deepEqual(
      grants,
      expected.filter(([, outcome]) => outcome === 'granted').map(([id]) => id),
      'order of grants',
    );
    for (const id of grants) {
      assert.ok(id > this.#lastGrant, `call ${id} was granted after call ${this.#lastGrant}`);
      this.#lastGrant = id;
    }
    const { tally } = this.#world;
    for (const [, outcome] of real) {
      if (outcome === 'granted') tally.grants++;
      else if (outcome === 'aborted') tally.aborts++;
      else tally.refusals++;
    }
  }

  /** Compares every getter of the throttle with the model. */
  compareNumbers(throttle: Throttle): void {
    const { model } = this;
    assert.deepEqual(
      {
        active: throttle.active,
        waiting: throttle.waiting,
        closed: throttle.closed,
        pausedFor: throttle.pausedFor,
        tokens: throttle.tokens,
        capacity: throttle.capacity,
        concurrency: throttle.concurrency,
        period: throttle.period,
        burst: throttle.burst,
      },
      {
        active: model.active,
        waiting: model.queue.length,
        closed: model.closed,
        pausedFor: Math.max(0, model.pausedUntil - model.time),
        tokens: model.tokens,
        capacity: model.capacity,
        concurrency: model.concurrency,
        period: model.period,
        burst: model.size,
      },
    );
    const [real, longest] = [throttle.estimateWait(0), model.estimate(0)];
    if (model.estimateIsExact(0)) assert.equal(real, longest, 'estimated wait');
    else assert.ok(real <= longest, `estimated a wait of ${real} s, although ${longest} s are possible`);
  }

  /** Releases every permit. */
  end(): void {
    for (const finish of this.#finish.values()) finish();
    for (const permit of this.#permits.values()) permit.release();
  }
}

/** The settings of a throttle: its main rate, further rates and other limits. */
export interface Settings {
  readonly first: Rate;
  readonly also: readonly Rate[];
  readonly concurrency: number;
  readonly maxQueue: number;
}

/**
 * Plays a history to a throttle and to its model, and compares everything observable after each operation. Ends early
 * when instants become too fine for exact sums. Returns the model.
 */
export async function playHistory(
  { first, also, concurrency, maxQueue }: Settings,
  operations: readonly Operation[],
  tally: Tally,
): Promise<Reference> {
  const world = new World(tally);
  const { clock } = world;
  const { capacity, period = 1, burst, window, margin } = first;
  const throttle = new Throttle(capacity, concurrency, period, { burst, window, margin, also, maxQueue, clock });
  const model = new Reference(capacity, concurrency, period, burst, maxQueue, { window, margin, also });
  const gate = new ComparedGate(model, throttle, world);
  const awaited = new AwaitedPromises();
  for (const operation of operations) {
    if (!model.exact) break;
    tally.operations++;
    switch (operation.do) {
      case 'abort':
        world.abort(operation.signal);
        await world.turn();
        break;
      case 'clear':
        throttle.clear();
        model.dismiss(() => true, 'cleared');
        await world.turn();
        break;
      case 'idle': {
        const { below } = operation;
        awaited.follow(`below ${below}`, throttle.idle({ below }), () => model.queue.length < below);
        awaited.follow('idle', throttle.idle(), () => model.isIdle);
        await world.turn();
        break;
      }
      case 'drain':
        awaited.follow('drain', throttle.drain(), () => model.isIdle);
        model.closed = true;
        await world.turn();
        break;
      case 'close':
        throttle.close();
        model.closed = true;
        model.dismiss(() => true, 'closed');
        await world.turn();
        break;
      case 'advance':
        model.advance(operation.seconds);
        await clock.advance(operation.seconds);
        model.turn();
        if (!model.exact) continue;
        break;
      default:
        await gate.play(operation);
    }
    gate.compareOutcomes();
    gate.compareNumbers(throttle);
    awaited.compare();
    world.compareTimers();
    world.compareListeners();
  }
  // Finally close rejects all waiters, and nothing remains.
  throttle.close();
  gate.end();
  await throttle.idle();
  assert.deepEqual([throttle.active, throttle.waiting, clock.pending], [0, 0, 0], 'remaining');
  await turn();
  return model;
}

/** Checks promise 2 from the log of grants alone: between changes of limits, at most a full bucket and its refill. */
export function checkRate({ eras, grants, requested, first }: Reference): void {
  if (first.window !== undefined) return;
  let index = 0;
  let level = eras[0]?.burst ?? 0;
  let at = 0;
  for (const { id, at: now, cost } of grants) {
    // At the instant of a change, the widest of the limits applies. After a change the bucket counts as full.
    for (let later = eras[index + 1]; later !== undefined && later.from < now; later = eras[index + 1])
      [index, level, at] = [index + 1, later.burst, later.from];
    const era = eras[index];
    const changed = eras.slice(index + 1).filter(({ from }) => from === now);
    if (era === undefined || era.rate === Infinity || changed.some(({ rate }) => rate === Infinity)) continue;
    const wider = Math.max(era.burst, ...changed.map(({ burst }) => burst)) - era.burst;
    level = Math.min(era.burst, level + era.rate * (now - at)) - Math.min(cost, requested.get(id) ?? 0);
    at = now;
    assert.ok(level + wider >= -1e-9, `granted ${-level} more than the rate allows at ${now}`);
  }
}
