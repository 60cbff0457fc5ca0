/**
 * The hooks of the development aids. `headgate/development` sets them, and all copies of headgate in the process call
 * them. Without the aids, a hook costs one load and one comparison.
 */

/** A permit that is out, or a call that waits, for the messages of tests. */
export interface OpenCall {
  /** The stack of the call, without the frames of headgate; the innermost frame first. Empty if it is unknown. */
  readonly frames: readonly string[];
  /** The number of slots. */
  readonly slots: number;
}

/**
 * The functions that gates call while the aids are on. Copies of headgate of different versions share them: change them
 * only by optional members. `gate` is the object that publishes the events of the gate. No function throws, except
 * `checkNested`.
 */
export interface DevelopmentAids {
  /** A gate has granted a permit. `call` is the object that `queued` has received; absent for a grant without a wait. */
  granted(gate: object | undefined, permit: object, call: object | undefined): void;
  /** A call waits. Called synchronously in the call. A repeated notification has no effect. */
  queued(gate: object | undefined, call: object, slots: number): void;
  /** A call ended without a permit. */
  refused(call: object): void;
  /** A permit no longer holds its slots. */
  released(permit: object): void;
  /** One permit stands for several permits of several gates. */
  joined(permit: object, permits: readonly object[]): void;
  /** Throws if the caller is part of a job that holds the slots which it is about to wait for. */
  checkNested(gate: object, slots: number): void;
  /** Calls `fn` as the job of `permit`. */
  runJob<P, T>(fn: (permit: P) => T, permit: P): T;
  /** Calls `fn`. The calls of gates in the asynchronous context of `fn` are reported at the place of this call. */
  callFrom<T>(fn: () => T): T;
  /** The permits of a gate that are out, and the calls that wait. */
  openCalls(gate: object): { readonly permits: readonly OpenCall[]; readonly waiting: readonly OpenCall[] };
  /** Changes the settings of the aids. */
  configure(options: object): void;
}

/** The place of the aids, shared by all copies of headgate in the realm. */
export interface DevelopmentHooks {
  aids: DevelopmentAids | undefined;
}

const platform = globalThis as { [key: symbol]: unknown };

function sharedHooks(): DevelopmentHooks {
  const key = Symbol.for('headgate.development');
  const hooks = (platform[key] as DevelopmentHooks | undefined) ?? { aids: undefined };
  // `Reflect.set`, because the global object may be frozen.
  Reflect.set(platform, key, hooks);
  return hooks;
}

/** The pure annotation lets a bundler remove the object from a program without gates. */
export const development: DevelopmentHooks = /* @__PURE__ */ sharedHooks();

/** Calls `fn` with `permit`, as the job of the permit. */
export function runJob<P, T>(fn: (permit: P) => T, permit: P): T {
  return development.aids === undefined ? fn(permit) : development.aids.runJob(fn, permit);
}

/** Calls `fn`, which makes calls of gates later for its caller. */
export function callFrom<T>(fn: () => T): T {
  return development.aids === undefined ? fn() : development.aids.callFrom(fn);
}
