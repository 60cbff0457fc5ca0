/** The gate that grants permits by itself while Redis fails, for `failOpen`. */
import { type Cost, costsByName, type NamedRates } from '../core/cost.js';
import type { EventPublisher } from '../core/events.js';
import type { CorrectOptions } from '../core/gate.js';
import { IdleListeners } from '../core/idle.js';
import type { Permit } from '../core/permit.js';
import type { Throttle } from '../core/throttle.js';
import { abortReasonOf, type Call } from './calls.js';
import { Lease, type RedisGrant } from './lease.js';

/** A throttle of this process: for a key of a keyed gate, the throttle of the key. */
export type LocalGate = Pick<Throttle<string>, 'acquire' | 'tryAcquire' | 'pause' | 'resume' | 'correct'>;

/** The grant of a permit that Redis does not know. */
const NO_GRANT: RedisGrant = { serial: '', slot: 0, item: '' };

interface FallbackHooks {
  /** Called with 1 when a call waits here, and with -1 when it does not wait any more. */
  readonly onResize?: (change: 1 | -1) => void;
  /** The present instant, for the age of a permit. */
  readonly now?: () => number;
}

export class Fallback {
  readonly #gate: LocalGate;
  readonly #publisher: EventPublisher;
  readonly #settleWithoutPermit: (call: Call, error: unknown, reason?: 'aborted') => void;
  /** The named rates; `undefined` without names. */
  readonly #rates: NamedRates | undefined;
  readonly #idleListeners = new IdleListeners();
  readonly #hooks: FallbackHooks;
  #held = 0;
  #waiting = 0;

  /**
   * @param settleWithoutPermit Ends a call that gets no permit.
   */
  constructor(
    gate: LocalGate,
    publisher: EventPublisher,
    settleWithoutPermit: (call: Call, error: unknown, reason?: 'aborted') => void,
    rates?: NamedRates,
    hooks: FallbackHooks = {},
  ) {
    this.#hooks = hooks;
    this.#gate = gate;
    this.#rates = rates;
    this.#publisher = publisher;
    this.#settleWithoutPermit = settleWithoutPermit;
  }

  /** The permits of the fallback that are held. */
  get held(): number {
    return this.#held;
  }

  /** The calls that wait for a permit of the fallback. */
  get waiting(): number {
    return this.#waiting;
  }

  get isIdle(): boolean {
    return this.#held + this.#waiting === 0;
  }

  /** Resolves when no call waits here and every permit of the fallback is released. */
  async idle(): Promise<void> {
    if (!this.isIdle) await this.#idleListeners.add(0);
  }

  #notifyIfIdle(): void {
    this.#idleListeners.notify(this.isIdle, this.#waiting);
  }

  pause(seconds: number): void {
    this.#gate.pause(seconds);
  }

  correct(levels: Cost, options?: CorrectOptions): void {
    this.#gate.correct(levels, options);
  }

  resume(): void {
    this.#gate.resume();
  }

  /** Requests the permit of a call. The local gate publishes nothing; this class publishes the events. */
  acquire(call: Call, now: number): void {
    if (call.tries) return this.#tryAcquire(call, now);
    const { since, timeout, signal, terms } = call;
    const left = timeout === Infinity ? Infinity : Math.max(0, timeout - (now - since));
    this.#waiting++;
    this.#hooks.onResize?.(1);
    this.#gate.acquire(this.#costOf(call), { signal, timeout: left, slots: terms?.slots }).then(
      (permit) => {
        this.#waiting--;
        this.#grant(call, permit, Math.max(0, now - since) + permit.waited);
        return this.#hooks.onResize?.(-1);
      },
      (error: unknown) => {
        this.#waiting--;
        const aborted = signal?.aborted === true && error === abortReasonOf(signal);
        this.#settleWithoutPermit(call, error, aborted ? 'aborted' : undefined);
        this.#hooks.onResize?.(-1);
        this.#notifyIfIdle();
      },
    );
  }

  /** The cost of a call, as its caller could have written it. */
  #costOf({ cost, terms }: Call): Cost {
    const names = this.#rates?.names ?? [];
    return terms === undefined ? cost : { ...costsByName(names, terms.costs), cost };
  }

  /** The true costs of the rates that a settlement has changed. */
  #settled({ cost, costs }: Lease, differences: readonly number[]): Cost {
    const names = this.#rates?.names ?? [];
    const entries = names.map((name, index) => [name, differences[index + 1] === 0 ? undefined : costs[name]]);
    return { ...Object.fromEntries(entries), cost: differences[0] === 0 ? undefined : cost };
  }

  #tryAcquire(call: Call, now: number): void {
    try {
      const permit = this.#gate.tryAcquire(this.#costOf(call));
      if (permit === undefined) this.#settleWithoutPermit(call, undefined);
      else this.#grant(call, permit, Math.max(0, now - call.since));
    } catch (error) {
      this.#settleWithoutPermit(call, error);
    }
  }

  #grant(call: Call, permit: Permit, waited: number): void {
    const issuer = {
      onRelease: () => {
        this.#held--;
        this.#publisher.released(lease);
        permit.release();
        this.#notifyIfIdle();
      },
      now: this.#hooks.now,
      rates: this.#rates,
      onSettle: (_: unknown, _difference: number, differences?: readonly number[]) =>
        permit.settle(differences === undefined ? lease.cost : this.#settled(lease, differences)),
      checkExpiry() {},
    };
    const lease: Lease = new Lease(issuer, call.cost, waited, NO_GRANT, call.terms, this.#hooks.now?.());
    this.#held++;
    this.#publisher.grantedWaiter(lease, call);
    call.resolve(lease);
  }
}
