/** Positions: the time axis, a lane for each call, and the bands of the pauses. In CSS pixels. */
import { formatCount, formatNumber } from './format.js';
import { groupByPixel, type Point } from './lines.js';
import type { Call, History, Pause } from './read.js';
import { textWidth } from './svg.js';

/** The margin around the picture. */
export const MARGIN = 16;
/** The room for numbers left of the time axis. */
const GUTTER = 44;
/** The height of a normal lane. */
export const LANE_HEIGHT = 18;
/** The height of all thin lanes together. */
const THIN_LANES_HEIGHT = 360;
/** The maximum number of normal lanes. With more calls, calls share lanes, or all lanes are thin. */
const MAX_LANES = 24;
/** The maximum number of calls that are drawn. Of more, every second one is drawn, or every third, and so on. */
const MAX_CALLS = 200;

/** The time axis: an interval in seconds, and its place in the picture. */
export interface Axis {
  readonly from: number;
  readonly to: number;
  readonly left: number;
  readonly right: number;
  /** The x coordinate of an instant. An instant outside the axis gets the coordinate of the nearer end. */
  readonly x: (instant: number) => number;
}

export function createAxis(from: number, to: number, width: number): Axis {
  const left = MARGIN + GUTTER;
  const right = width - MARGIN;
  return {
    from,
    to,
    left,
    right,
    x: (instant) => left + ((Math.min(to, Math.max(from, instant)) - from) / (to - from)) * (right - left),
  };
}

/** The default end of the axis: shortly after the last event, so that a call that ended then stops before the edge. */
export function defaultEnd({ lastEventAt, pauses }: History, from: number): number {
  if (lastEventAt > from) return from + (lastEventAt - from) * 1.03;
  const until = pauses.at(-1)?.until ?? Infinity;
  return until > from && until < Infinity ? until : from + Math.max(1, from / 1e9);
}

/** The lane of each call that is drawn. */
export interface LaneLayout {
  readonly placed: readonly { readonly call: Call; readonly lane: number }[];
  readonly count: number;
  /** The height of a lane. */
  readonly pitch: number;
  /** Whether each lane has one call only. */
  readonly own: boolean;
  /** 1 if all calls are drawn, 2 if every second call is drawn, and so on. */
  readonly every: number;
}

/**
 * Gives each call a lane of its own if the calls are few. Otherwise a later call may use the lane of an ended call, if
 * {@link MAX_LANES} lanes are then enough. Otherwise each call gets a thin lane.
 *
 * @param gap Seconds between two calls in one lane.
 */
export function assignLanes(calls: readonly Call[], gap: number): LaneLayout {
  const every = Math.max(1, Math.ceil(calls.length / MAX_CALLS));
  const drawn = calls.filter((_, index) => index % every === every - 1);
  const own = drawn.map((call, lane) => ({ call, lane }));
  if (drawn.length > MAX_LANES) {
    const laneEnds: number[] = [];
    const shared = drawn.map((call) => {
      const free = laneEnds.findIndex((end) => end + gap <= call.calledAt);
      const lane = free < 0 ? laneEnds.length : free;
      laneEnds[lane] = call.endedAt;
      return { call, lane };
    });
    if (laneEnds.length <= MAX_LANES)
      return { placed: shared, count: laneEnds.length, pitch: LANE_HEIGHT, own: false, every };
  }
  const pitch = own.length > MAX_LANES ? THIN_LANES_HEIGHT / own.length : LANE_HEIGHT;
  return { placed: own, count: own.length, pitch, own: true, every };
}

/** The band of a pause, or of several pauses that end on one pixel. */
export interface PauseBand {
  readonly start: number;
  readonly width: number;
  /** The name of the band. Empty without room for it. */
  readonly name: string;
  readonly nameX: number;
}

export function pauseBands(pauses: readonly Pause[], { left, right, x }: Axis): PauseBand[] {
  let free = left;
  return groupByPixel(pauses, ({ until }) => x(until)).map((group) => {
    const [{ from }, { until }] = [group[0], group.at(-1)] as [Pause, Pause];
    const width = Math.max(1, x(until) - x(from));
    const start = Math.min(x(from), right - width);
    const name =
      group.length > 1
        ? formatCount(group.length, 'pause')
        : until < Infinity
          ? `paused ${formatNumber(until - from)} s`
          : 'paused';
    const length = textWidth(name);
    const nameX = Math.max(left, Math.min(start + (width - length) / 2, right - length));
    const hasRoom = nameX >= free;
    if (hasRoom) free = nameX + length + 8;
    return { start, width, name: hasRoom ? name : '', nameX };
  });
}

/** A step of 1, 2 or 5 times a power of ten, such that at most `maxSteps` steps fit into `span`. */
export function niceStep(span: number, maxSteps: number): number {
  const power = 10 ** Math.floor(Math.log10(span / maxSteps));
  return ([1, 2, 5].find((times) => times * power * maxSteps >= span) ?? 10) * power;
}

/** Drops each point that is closer than `gap` to the kept point on its left. */
export function spaceOut(points: readonly Point[], gap: number): Point[] {
  let free = -Infinity;
  return points.filter(([x]) => {
    if (x < free) return false;
    free = x + gap;
    return true;
  });
}
