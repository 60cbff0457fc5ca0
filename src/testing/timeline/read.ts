/** Reads a trace into calls, pauses, limits and token readings. All instants are in seconds after the first event. */
import { checkNumber } from '../../core/validation.js';
import type { Trace, TracedCall, TracedLimits, TracedRate } from '../recorder.js';

/** One call, from its first event to its last. */
export interface Call {
  /** The position in the order of the calls, from 1. */
  readonly number: number;
  /** Tokens of the main rate: the cost of the latest event. */
  cost: number;
  /** Tokens of each named rate, of the latest event. */
  costs: Readonly<Record<string, number>>;
  /** The slots that the call occupies while it runs. */
  readonly slots: number;
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

/** The levels of one rate. */
export interface RateHistory {
  /** The name of the rate; `undefined` for the main rate. */
  readonly name: string | undefined;
  /** The size of the bucket in tokens, and every change. */
  readonly bounds: readonly DatedBound[];
  /** One entry for each event with a known level. */
  readonly readings: readonly TokenReading[];
}

/** A bound of a value from an instant on; `null` for no bound. */
export interface DatedBound {
  readonly from: number;
  readonly value: number | null;
}

/** The content of a trace, ready to be drawn. */
export interface History {
  readonly calls: readonly Call[];
  readonly pauses: readonly Pause[];
  /** The limits at the start, and every change. */
  readonly limits: readonly [DatedLimits, ...DatedLimits[]];
  /** The named rates. */
  readonly namedRates: Readonly<Record<string, TracedRate>>;
  /** The levels of the main rate, then of the named rates. A rate without a known level is left out. */
  readonly rates: readonly RateHistory[];
  /** The instant of the last event. */
  readonly lastEventAt: number;
}

export function readTrace({ events, limits: firstLimits, rates: namedRates = {} }: Trace): History {
  const calls = new Map<number, Call>();
  const pauses: Pause[] = [];
  let current: DatedLimits = { ...firstLimits, from: -Infinity };
  const limits: [DatedLimits, ...DatedLimits[]] = [current];
  const readings: TokenReading[] = [];
  const named = Object.entries(namedRates).map(([name, rate]) => ({ name, rate, readings: [] as TokenReading[] }));
  const start = events[0]?.at ?? 0;
  let at = 0;
  for (const [index, event] of events.entries()) {
    // A bound below the largest number keeps the difference of two instants finite.
    checkNumber(`trace.events[${index}].at`, 'a finite number', event.at, -1e300, 1e300);
    // A clock may step back. The time axis moves forward only.
    at = Math.max(at, event.at - start);
    if (event.limits !== undefined) limits.push((current = { ...event.limits, from: at }));
    const { kind, cost, costs }: { kind: string; cost?: number; costs?: TracedCall['costs'] } = event;
    const known = event.kind === 'paused' ? undefined : calls.get(event.id);
    addReading(readings, at, event.tokens, tokensTaken(kind, cost, known?.cost), current);
    for (const { name, rate, readings: levels } of named) {
      const taken = tokensTaken(kind, ownEntry(costs, name), ownEntry(known?.costs, name));
      addReading(levels, at, ownEntry(event.levels, name), taken, rate);
    }
    if (event.kind === 'paused') {
      addPause(pauses, at, event.seconds);
      continue;
    }
    let call = calls.get(event.id);
    if (call === undefined) {
      const calledAt = event.kind === 'released' ? -Infinity : event.kind === 'granted' ? at - event.waited : at;
      const grantedAt = event.kind === 'released' ? -Infinity : Infinity;
      call = {
        number: calls.size + 1,
        cost: event.cost,
        costs: {},
        slots: event.slots ?? 1,
        calledAt,
        grantedAt,
        endedAt: Infinity,
        refused: '',
      };
      calls.set(event.id, call);
    }
    if (event.kind === 'granted') call.grantedAt = at;
    else if (event.kind !== 'queued') call.endedAt = at;
    if (event.kind === 'refused') call.refused = event.reason;
    call.cost = event.cost;
    call.costs = event.costs ?? {};
  }
  const rates: RateHistory[] = [
    { name: undefined, bounds: limits.map(({ from, burst }) => ({ from, value: burst })), readings },
    ...named.map(({ name, rate, readings: levels }) => ({
      name,
      bounds: [{ from: -Infinity, value: rate.burst }],
      readings: levels,
    })),
  ];
  return {
    calls: [...calls.values()],
    pauses,
    limits,
    namedRates,
    rates: rates.filter((rate) => rate.readings.length > 0),
    lastEventAt: at,
  };
}

/** The entry of a record; `undefined` without an entry. A rate may have the name of a method of all objects. */
function ownEntry(record: Readonly<Record<string, number>> | undefined, name: string): number | undefined {
  return record !== undefined && Object.hasOwn(record, name) ? record[name] : undefined;
}

/**
 * The tokens that an event took: of a grant, the cost; of a release, the difference that a settlement has taken or
 * returned before it.
 */
function tokensTaken(kind: string, cost = 0, earlierCost = cost): number {
  return kind === 'granted' ? cost : kind === 'released' ? cost - earlierCost : 0;
}

/** Adds the level after an event. `taken`: the tokens that the event took. */
function addReading(
  readings: TokenReading[],
  at: number,
  level: number | undefined,
  taken: number,
  { capacity, period, burst }: TracedRate,
): void {
  if (level === undefined || !Number.isFinite(level)) return;
  const size = burst ?? Infinity;
  // The reading comes after the event: the level before it was higher by the tokens taken, but at most the size.
  const before = Math.min(level + taken, Math.max(level, size));
  readings.push({ at, before, after: level, rate: (capacity ?? 0) / period, burst: size });
}

/** Adds a pause, extends the current one, or ends it. `seconds`: `null` for a pause without an end, 0 for `resume`. */
function addPause(pauses: Pause[], at: number, seconds: number | null): void {
  const latest = pauses.at(-1);
  const until = at + (seconds ?? Infinity);
  if (latest === undefined || latest.until <= at) {
    if (seconds !== 0) pauses.push({ from: at, until });
  } else latest.until = seconds === 0 ? at : Math.max(latest.until, until);
}
