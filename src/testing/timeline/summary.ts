/** The sentences of the picture: the limits, the outcomes of the calls, and a description. */
import type { TracedLimits, TracedRate } from '../recorder.js';
import { formatCount, formatNumber } from './format.js';
import type { LaneLayout } from './layout.js';
import type { Call, History, Pause } from './read.js';

/** The maximum number of pauses that the description lists. */
const MAX_LISTED_PAUSES = 10;

/** For example `10 tokens per second, burst 5`. `count` is the capacity with its unit. */
function describeRate({ capacity, period, burst }: TracedRate, count: (capacity: number) => string): string {
  if (capacity === null) return 'any rate';
  const size = burst === null || burst === Math.max(1, capacity) ? '' : `, burst ${formatNumber(burst)}`;
  return `${count(capacity)} per ${period === 1 ? 'second' : `${formatNumber(period)} s`}${size}`;
}

function describeLimits(limits: TracedLimits, isOnlyRate: boolean): string {
  const rate = describeRate(limits, (capacity) =>
    isOnlyRate ? formatCount(capacity, 'token') : formatNumber(capacity),
  );
  return `${rate}, ${limits.concurrency ?? 'any number'} at a time`;
}

/** The number of calls, and how many were refused, still run or still wait. */
function describeOutcomes(calls: readonly Call[]): string {
  const reasons = new Map<string, number>();
  const refusals = calls.filter(({ refused }) => refused);
  for (const { refused } of refusals) reasons.set(refused, (reasons.get(refused) ?? 0) + 1);
  const why = [...reasons]
    .map(([reason, count]) => (count === refusals.length ? reason : `${count} ${reason}`))
    .join(', ');
  const open = calls.filter((call) => call.endedAt === Infinity);
  const running = open.filter((call) => call.grantedAt < Infinity).length;
  const parts = [
    [refusals.length, `refused (${why})`],
    [running, 'still running'],
    [open.length - running, 'still waiting'],
  ] as const;
  return [
    formatCount(calls.length, 'call'),
    ...parts.filter(([count]) => count > 0).map(([count, what]) => `${count} ${what}`),
  ].join(', ');
}

/** The lines below the title: the limits, the named rates, the latest change of the limits, and the outcomes of the calls. */
export function summaryLines({ limits, namedRates }: History, calls: readonly Call[], lanes: LaneLayout): string[] {
  const note = lanes.every > 1 ? `; 1 in ${lanes.every} is drawn` : lanes.own ? '' : '; lanes are shared';
  const [first, ...changes] = limits;
  const named = Object.entries(namedRates).map(([name, rate]) => `${name}: ${describeRate(rate, formatNumber)}`);
  const isOnlyRate = named.length === 0;
  const latest = changes
    .slice(-1)
    .map((last) => `${changes.length > 1 ? 'in the end' : 'then'} ${describeLimits(last, isOnlyRate)}`);
  return [
    describeLimits(first, isOnlyRate),
    ...(isOnlyRate ? [] : [named.join('; ')]),
    ...latest,
    `${describeOutcomes(calls)}${note}`,
  ];
}

/** Describes the picture to readers who use a screen reader. */
export function describePicture(
  lines: readonly string[],
  pauses: readonly Pause[],
  maxRunning: number,
  from: number,
  to: number,
): string {
  const listed = pauses
    .slice(0, MAX_LISTED_PAUSES)
    .map(
      ({ from: start, until }) =>
        ` Paused from ${formatNumber(start)} s ${until < Infinity ? `to ${formatNumber(until)} s` : 'on'}.`,
    );
  if (pauses.length > MAX_LISTED_PAUSES) listed.push(` ${formatCount(pauses.length, 'pause')} in all.`);
  const span = `A timeline from ${formatNumber(from)} s to ${formatNumber(to)} s.`;
  return `${span} ${lines.slice(1).join('. ')}. At most ${maxRunning} at once.${listed.join('')}`;
}
