/** Reads a trace into calls, pauses, limits and token readings. All instants are in seconds after the first event. */
import { checkNumber } from '../../core/validation.js';
import type { Trace, TracedLimits } from '../recorder.js';

/** One call, from its first event to its last. */
export interface Call {
  /** The position in the order of the calls, from 1. */
  readonly number: number;
  /** Tokens: the cost of the latest event. */
  cost: number;
  /** The instant of the call; `-Infinity` for a call from before the trace. */
  readonly calledAt: number;
  /** The instant of the grant; `-Infinity` for a grant from before the trace, `Infinity` without a grant. */
  grantedAt: number;
  /** The instant of the release or of the refusal; `Infinity` while the call waits or runs. */
  endedAt: number;
  /** Empty unless the call was refused. */
  refused: string;
}

/** The tokens right before and right after an event. They then refill by `rate` per second, up to `burst`. */
export interface TokenReading {
  readonly at: number;
  readonly before: number;
  readonly after: number;
  readonly rate: number;
  readonly burst: number;
}

export interface Pause {
  readonly from: number;
  /** `Infinity` for a pause without an end. */
  until: number;
}

/** Limits, and the instant from which they apply. */
export interface DatedLimits extends TracedLimits {
  readonly from: number;
}

/** The content of a trace, ready to be drawn. */
export interface History {
  readonly calls: readonly Call[];
  readonly pauses: readonly Pause[];
  /** The limits at the start, and every change. */
  readonly limits: readonly [DatedLimits, ...DatedLimits[]];
  /** One entry for each event with known tokens. */
  readonly readings: readonly TokenReading[];
  /** The instant of the last event. */
  readonly lastEventAt: number;
}

export function readTrace({ events, limits: firstLimits }: Trace): History {
  const calls = new Map<number, Call>();
  const pauses: Pause[] = [];
  let current: DatedLimits = { ...firstLimits, from: -Infinity };
  const limits: [DatedLimits, ...DatedLimits[]] = [current];
  const readings: TokenReading[] = [];
  const start = events[0]?.at ?? 0;
  let at = 0;
  for (const [index, event] of events.entries()) {
    const { tokens = NaN } = event;
    // A bound below the largest number keeps the difference of two instants finite.
    checkNumber(`trace.events[${index}].at`, 'a finite number', event.at, -1e300, 1e300);
    // A clock may step back. The time axis moves forward only.
    at = Math.max(at, event.at - start);
    if (event.limits !== undefined) limits.push((current = { ...event.limits, from: at }));
    if (Number.isFinite(tokens)) {
      const burst = current.burst ?? Infinity;
      // The reading comes after the grant: the level before it was higher by the cost, but at most `burst`.
      const before = event.kind === 'granted' ? Math.min(tokens + event.cost, burst) : tokens;
      readings.push({ at, before, after: tokens, rate: (current.capacity ?? 0) / current.period, burst });
    }
    if (event.kind === 'paused') {
      addPause(pauses, at, event.seconds);
      continue;
    }
    let call = calls.get(event.id);
    if (call === undefined) {
      const calledAt = event.kind === 'released' ? -Infinity : event.kind === 'granted' ? at - event.waited : at;
      const grantedAt = event.kind === 'released' ? -Infinity : Infinity;
      const number = calls.size + 1;
      calls.set(event.id, (call = { number, cost: event.cost, calledAt, grantedAt, endedAt: Infinity, refused: '' }));
    }
    if (event.kind === 'granted') call.grantedAt = at;
    else if (event.kind !== 'queued') call.endedAt = at;
    if (event.kind === 'refused') call.refused = event.reason;
    call.cost = event.cost;
  }
  return { calls: [...calls.values()], pauses, limits, readings, lastEventAt: at };
}

/** Adds a pause, extends the current one, or ends it. `seconds`: `null` for a pause without an end, 0 for `resume`. */
function addPause(pauses: Pause[], at: number, seconds: number | null): void {
  const latest = pauses.at(-1);
  const until = at + (seconds ?? Infinity);
  if (latest === undefined || latest.until <= at) {
    if (seconds !== 0) pauses.push({ from: at, until });
  } else latest.until = seconds === 0 ? at : Math.max(latest.until, until);
}
