/** The lines of the panels: the running jobs and the tokens, over time. */
import type { Call, TokenReading } from './read.js';

/** A point of a line: an instant in seconds, and a value. */
export type Point = readonly [at: number, value: number];

/**
 * The tokens as a line up to `to`. The events give the known levels. Between two events the line rises like a bucket's
 * refill, if that prediction meets the next known level at least as often as not. Otherwise (sliding windows, several
 * rates) the line stays level and jumps at the next event: at least that many tokens were available.
 */
export function tokenLine(readings: readonly TokenReading[], to: number): Point[] {
  const drawRefill = refillsEvenly(readings);
  return readings.flatMap((reading, index) => {
    const { at, before, after } = reading;
    const until = readings[index + 1]?.at ?? to;
    return [
      [at, before],
      [at, after],
      ...(until <= at ? [] : drawRefill ? refillLine(reading, until) : [[until, after] as const]),
    ];
  });
}

/** The refill of a bucket after a reading, up to the instant `until`. */
function refillLine({ at, after, rate, burst }: TokenReading, until: number): Point[] {
  const fullAt = after < burst && rate > 0 ? at + (burst - after) / rate : at;
  if (fullAt >= until) return [[until, after + rate * (until - at)]];
  return fullAt > at
    ? [
        [fullAt, burst],
        [until, burst],
      ]
    : [[until, after]];
}

/** Whether an even refill predicts at least half of the readings that follow a refill. */
function refillsEvenly(readings: readonly TokenReading[]): boolean {
  let balance = 0;
  for (const [index, { at, before }] of readings.entries()) {
    const previous = readings[index - 1];
    if (previous === undefined) continue;
    const { rate, burst } = previous;
    // Timers have a granularity of about 2 ms. The refill of so short a time is no evidence.
    const tolerance = (burst < Infinity ? burst * 1e-6 : 0) + rate * 0.002;
    if (previous.after >= burst || rate * (at - previous.at) <= 2 * tolerance) continue;
    const [, expected] = refillLine(previous, at).at(-1) as Point;
    balance += Math.abs(expected - before) <= tolerance ? 1 : -1;
  }
  return balance >= 0;
}

/** The number of slots in use as a line of steps up to `to`. */
export function runningLine(calls: readonly Call[], to: number): Point[] {
  const steps = new Map<number, number>();
  for (const { grantedAt, endedAt, slots } of calls) {
    if (grantedAt === Infinity) continue;
    const from = Math.max(0, grantedAt);
    steps.set(from, (steps.get(from) ?? 0) + slots);
    if (endedAt < Infinity) steps.set(endedAt, (steps.get(endedAt) ?? 0) - slots);
  }
  let count = 0;
  const line: Point[] = [[0, 0]];
  for (const [at, step] of [...steps].toSorted(([a], [b]) => a - b)) {
    line.push([at, count], [at, (count += step)]);
  }
  const [lastEventAt] = line.at(-1) as Point;
  line.push([Math.max(to, lastEventAt), count]);
  return line;
}

/** The part of a line between two instants. Each of them may lie between two points of the line. */
export function clipLine(line: readonly Point[], from: number, to: number): Point[] {
  return line.flatMap((point, index) => {
    const [at, value] = point;
    const [previousAt, previousValue] = line[index - 1] ?? point;
    const cuts = [from, to]
      .filter((edge) => previousAt < edge && at > edge)
      .map((edge): Point => [
        edge,
        previousValue + ((value - previousValue) * (edge - previousAt)) / (at - previousAt),
      ]);
    return at >= from && at <= to ? [...cuts, point] : cuts;
  });
}

/** Keeps at most four points for each pixel: the first, the least, the greatest and the last. */
export function thinLine(line: readonly Point[], x: (instant: number) => number): Point[] {
  return groupByPixel(line, ([at]) => x(at)).flatMap((points) => {
    if (points.length <= 4) return points;
    const byValue = points.toSorted(([, a], [, b]) => a - b);
    const kept = new Set([points[0], byValue[0], byValue.at(-1), points.at(-1)]);
    return points.filter((point) => kept.has(point));
  });
}

/** Groups the items that have the same x coordinate after rounding to a pixel. */
export function groupByPixel<T>(items: readonly T[], x: (item: T) => number): T[][] {
  const columns = new Map<number, T[]>();
  for (const item of items) {
    const column = Math.round(x(item));
    const group = columns.get(column) ?? [];
    columns.set(column, group);
    group.push(item);
  }
  return [...columns.values()];
}
