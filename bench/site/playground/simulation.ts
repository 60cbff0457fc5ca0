/** The gate of the playground: a real throttle on a manual clock, its jobs, and its recording. */
import { Throttle, type ThrottleOptions } from 'headgate';
import { ManualClock, record, type Recording } from 'headgate/testing';
import { heavyCost, PAUSE_SECONDS, type State, type Workload } from './state.js';

interface Job {
  readonly cost: number;
  readonly seconds: number;
}

/** Jobs that arrive together, and the seconds until the next arrival. */
interface Arrival {
  readonly jobs: readonly Job[];
  readonly next: number;
}

const ARRIVALS: Readonly<Record<Workload, (index: number, heavy: number) => Arrival>> = {
  steady: () => ({ jobs: [{ cost: 1, seconds: 0.5 }], next: 0.25 }),
  bursts: () => ({ jobs: Array.from({ length: 12 }, () => ({ cost: 1, seconds: 0.4 })), next: 4 }),
  heavy: (index, heavy) => ({
    jobs: [index % 3 === 2 ? { cost: heavy, seconds: 1.2 } : { cost: 1, seconds: 0.5 }],
    next: 0.5,
  }),
};

/** A gate with its workload. Time passes by {@link advance} only. */
export class Simulation {
  readonly #clock = new ManualClock();
  readonly #state: State;
  readonly throttle: Throttle;
  readonly trace: Recording;

  constructor(state: State) {
    const { capacity, concurrency, period, burst, window } = state;
    const options: ThrottleOptions = { clock: this.#clock, name: 'gate' };
    if (burst > 0 && capacity > 0) options.burst = burst;
    if (window === 'sliding') options.window = window;
    this.#state = state;
    this.throttle = new Throttle(capacity === 0 ? Infinity : capacity, concurrency, period, options);
    this.trace = record(this.throttle);
    this.#arrive(0);
  }

  /** The current instant in seconds. */
  get now(): number {
    return this.#clock.now();
  }

  /** Lets `seconds` pass. */
  advance(seconds: number): Promise<void> {
    return this.#clock.advance(seconds);
  }

  pause(): void {
    this.throttle.pause(PAUSE_SECONDS);
  }

  #arrive(index: number): void {
    const { jobs, next } = ARRIVALS[this.#state.workload](index, heavyCost(this.#state));
    for (const { cost, seconds } of jobs)
      // The cost is at most the burst, so the gate refuses no call.
      void this.throttle.run(() => new Promise<void>((resolve) => this.#clock.schedule(seconds, resolve)), cost);
    this.#clock.schedule(next, () => this.#arrive(index + 1));
  }
}

/**
 * A simulation of `state` with its pauses, up to the instant `until`. At the instant of a pause, all other events precede
 * the pause. So a state has the same simulation each time.
 */
export async function simulate(state: State, until: number = state.time): Promise<Simulation> {
  const simulation = new Simulation(state);
  for (const instant of state.pauses) {
    if (instant > simulation.now) await simulation.advance(instant - simulation.now);
    simulation.pause();
  }
  if (until > simulation.now) await simulation.advance(until - simulation.now);
  return simulation;
}

/** One sentence about the calls so far, for a screen reader. */
export function summarize({ now, throttle, trace }: Simulation): string {
  const granted = trace.events.filter((event) => event.kind === 'granted');
  const longest = Math.max(0, ...granted.map(({ waited }) => waited));
  const paused = throttle.pausedFor > 0 ? ` The gate is paused for ${+throttle.pausedFor.toFixed(1)} s more.` : '';
  return (
    `After ${+now.toFixed(1)} s: ${granted.length} jobs started, ${throttle.active} running, ` +
    `${throttle.waiting} waiting. The longest wait was ${+longest.toFixed(1)} s.${paused}`
  );
}
