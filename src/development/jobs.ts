/**
 * The jobs that a call is part of. A job is a function that `run`, `wrap` or `map` calls with a permit. The jobs form a
 * chain in the asynchronous context: a job, the job that has started it, and so on.
 */

/** A call of a gate, and its permit. It references neither the gate nor the permit, so that both can be collected. */
export interface Hold {
  readonly gate: GateRecord;
  /** The stack of the call, without the frames of headgate. */
  frames: readonly string[];
  slots: number;
  /** Whether the permit holds its slots. */
  isOut: boolean;
  /** Whether a function of `run`, `wrap` or `map` has the permit. */
  isJob: boolean;
}

/** The calls of one gate. */
export interface GateRecord {
  /** The name and the limits of the gate. */
  readonly label: string;
  /** Whether the gate had a concurrency limit at its first call. */
  readonly isLimited: boolean;
  /** The permits that are out. */
  readonly held: Set<Hold>;
  /** The calls that wait. */
  readonly waiting: Set<Hold>;
  /** How many of them wait for a number of slots, by that number. */
  readonly waitingBySlots: Map<number, number>;
  /** The permits that were collected without a release, summed by place. */
  readonly lost: Map<string, Hold>;
}

/** A link of the chain. */
export interface Job {
  /** The permits of the job. Empty for a function of headgate that makes calls for its caller. */
  readonly holds: readonly Hold[];
  /** The place that calls without a readable stack are reported at. */
  readonly frames: readonly string[];
  isEnded: boolean;
  parent: Job | undefined;
}

/** The part of `AsyncLocalStorage` that is used. */
export interface ContextStorage {
  getStore(): Job | undefined;
  run<T>(store: Job, fn: () => T): T;
}

/** The storage of the platform; `undefined` on a platform without one. */
export function contextStorage(): ContextStorage | undefined {
  interface Platform {
    process?: {
      getBuiltinModule?: (name: string) => { AsyncLocalStorage?: new () => ContextStorage } | undefined;
    };
  }
  try {
    const module = (globalThis as Platform).process?.getBuiltinModule?.('node:async_hooks');
    return module?.AsyncLocalStorage === undefined ? undefined : new module.AsyncLocalStorage();
  } catch {
    return undefined;
  }
}

function hasEnded({ holds, isEnded }: Job): boolean {
  return isEnded || (holds.length > 0 && holds.every(({ isOut }) => !isOut));
}

/** The innermost job of a chain that has not ended. */
function innermost(job: Job | undefined): Job | undefined {
  let current = job;
  while (current !== undefined && hasEnded(current)) current = current.parent;
  return current;
}

/**
 * The innermost job of a chain that has not ended. Removes the ended jobs from the chain. Without that, a program in
 * which each job starts the next job would have an endless chain.
 */
export function pruneJobs(job: Job | undefined): Job | undefined {
  const first = innermost(job);
  for (let current = first; current !== undefined; current = current.parent) current.parent = innermost(current.parent);
  return first;
}

/** The permits of a gate that the jobs of a chain hold; the innermost job first. */
export function holdsOf(gate: GateRecord, job: Job | undefined): Hold[] {
  const holds = new Set<Hold>();
  for (let current = job; current !== undefined; current = current.parent)
    for (const hold of current.holds) if (hold.isOut && hold.gate === gate) holds.add(hold);
  return [...holds];
}

/** The place of the innermost function of headgate that makes calls for its caller. */
export function framesOf(job: Job | undefined): readonly string[] {
  let current = job;
  while (current !== undefined && current.frames.length === 0) current = current.parent;
  return current?.frames ?? [];
}
