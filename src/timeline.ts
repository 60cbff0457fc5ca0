/**
 * A trace as a picture: who waited and who ran when, how many at once, how many tokens were left, and the pauses.
 * First the story is read out of the events (`read`, `levels`), then places are given out (`arrange`), then drawn. No
 * DOM and no clock: the same trace makes the same text everywhere.
 */
import { checkInteger, checkNumber, checkObject, invalid } from './errors.js';
import type { Trace, TracedLimits } from './trace.js';

/** What {@link toSVG} draws, and how large. */
export interface TimelineOptions {
  /** The headline. Default: the name of the throttle. */
  title?: string | undefined;
  /** Where the time axis begins: seconds after the first event, >= 0. Default 0. */
  from?: number | undefined;
  /** Where it ends: seconds after the first event. Default: right after the last event. */
  to?: number | undefined;
  /** CSS pixels, an integer from 360 to 4096. Default 560. Text keeps its size: made wider, there is more room for time. */
  width?: number | undefined;
}

/** One call, from its first event to its last. In seconds after the first event of the trace. */
interface Job {
  /** Its place in the order of the calls, from 1. */
  readonly number: number;
  cost: number;
  /** When the call came; `-Infinity` where that was before the trace. */
  readonly since: number;
  granted?: number;
  /** When it was released or refused. */
  end?: number;
  refused?: string;
}

/** A point of a line: an instant, and a value. */
type Point = readonly [at: number, value: number];

interface Story {
  readonly jobs: readonly Job[];
  /** When they began and ended; `until` is `Infinity` for one without an end. */
  readonly pauses: readonly { readonly from: number; until: number }[];
  readonly limits: readonly { readonly from: number; readonly limits: TracedLimits }[];
  /** The instants of the events, and the tokens right before and after each, where they are known. */
  readonly readings: readonly { readonly at: number; readonly before: number; readonly after: number }[];
  /** The instant of the last event. */
  readonly last: number;
}

function read({ events, limits: first }: Trace): Story {
  const jobs = new Map<number, Job>();
  const pauses: { from: number; until: number }[] = [];
  const limits = [{ from: -Infinity, limits: first }];
  const readings: { at: number; before: number; after: number }[] = [];
  const start = events[0]?.at ?? 0;
  let at = 0;
  for (const event of events) {
    // A clock may step back; a line does not.
    at = Math.max(at, event.at - start);
    if (event.limits !== undefined) limits.push({ from: at, limits: event.limits });
    if (event.tokens !== undefined) readings.push({ at, before: event.tokens + (event.kind === 'granted' ? event.cost : 0), after: event.tokens });
    if (event.kind === 'paused') {
      const current = pauses.at(-1);
      const until = at + (event.seconds ?? Infinity);
      if (current === undefined || current.until <= at) {
        if (event.seconds !== 0) pauses.push({ from: at, until });
      } else current.until = event.seconds === 0 ? at : Math.max(current.until, until);
      continue;
    }
    let job = jobs.get(event.id);
    if (job === undefined) {
      const since = event.kind === 'released' ? -Infinity : event.kind === 'granted' ? at - event.waited : at;
      jobs.set(event.id, (job = { number: jobs.size + 1, cost: event.cost, since }));
      if (event.kind === 'released') job.granted = -Infinity;
    }
    if (event.kind === 'granted') job.granted = at;
    else if (event.kind !== 'queued') job.end = at;
    if (event.kind === 'refused') job.refused = event.reason;
    job.cost = event.cost;
  }
  return { jobs: [...jobs.values()], pauses, limits, readings, last: at };
}

/** The limits that were in force at `at`. */
function limitsAt({ limits }: Story, at: number): TracedLimits {
  return (limits.findLast(({ from }) => from <= at) ?? (limits[0] as Story['limits'][number])).limits;
}

/**
 * The tokens as a line up to `to`. They are known at the events. In between, a bucket's refill is drawn where that
 * leads to what is known next more often than not. Otherwise (sliding windows, several rates) the line stays level and
 * jumps at the next event: there were at least so many.
 */
function levels(story: Story, to: number): Point[] {
  const { readings } = story;
  const rise = (at: number, tokens: number, until: number): Point[] => {
    const { capacity, period, burst } = limitsAt(story, at);
    const rate = (capacity ?? 0) / period;
    const most = burst ?? Infinity;
    const full = tokens < most && rate > 0 ? at + (most - tokens) / rate : at;
    if (full >= until) return [[until, tokens + rate * (until - at)]];
    return full > at ? [[full, most], [until, most]] : [[until, tokens]];
  };
  let told = 0;
  let matched = 0;
  for (const [index, { at, before }] of readings.entries()) {
    const previous = readings[index - 1];
    if (previous === undefined) continue;
    const { capacity, period, burst } = limitsAt(story, previous.at);
    const rate = (capacity ?? 0) / period;
    // What flows in during the grain of a timer says nothing.
    const slack = (burst ?? 0) * 1e-6 + rate * 0.002;
    if (previous.after >= (burst ?? Infinity) || rate * (at - previous.at) <= 2 * slack) continue;
    told++;
    const [, expected] = rise(previous.at, previous.after, at).at(-1) as Point;
    if (Math.abs(expected - before) <= slack) matched++;
  }
  const flows = matched * 2 >= told;
  const line: Point[] = [];
  for (const [index, { at, before, after }] of readings.entries()) {
    line.push([at, before], [at, after]);
    const until = readings[index + 1]?.at ?? to;
    if (until > at) line.push(...(flows ? rise(at, after, until) : [[until, after] as const]));
  }
  return line;
}

/** How many ran at once, as a line of steps up to `to`. */
function running(jobs: readonly Job[], to: number): Point[] {
  const steps = new Map<number, number>();
  for (const { granted, end } of jobs) {
    if (granted === undefined) continue;
    const from = Math.max(0, granted);
    steps.set(from, (steps.get(from) ?? 0) + 1);
    if (end !== undefined) steps.set(end, (steps.get(end) ?? 0) - 1);
  }
  let count = 0;
  const line: Point[] = [[0, 0]];
  for (const [at, step] of [...steps].toSorted(([a], [b]) => a - b)) {
    line.push([at, count]);
    line.push([at, (count += step)]);
  }
  line.push([Math.max(to, line.at(-1)?.[0] ?? 0), count]);
  return line;
}

/** The part of a line between two instants, which may lie between two of its points. */
function clip(line: readonly Point[], from: number, to: number): Point[] {
  const part: Point[] = [];
  for (const [index, point] of line.entries()) {
    const [at, value] = point;
    const [earlier, before] = line[index - 1] ?? point;
    const between = (instant: number): Point => [instant, before + ((value - before) * (instant - earlier)) / (at - earlier)];
    if (earlier < from && at > from) part.push(between(from));
    if (at >= from && at <= to) part.push(point);
    if (earlier < to && at > to) part.push(between(to));
  }
  return part;
}

/** More than this, and every second one is drawn, or every third, and so on. */
const MOST_JOBS = 200;
/** As many lanes can be told apart, and labelled. More are thin. */
const MOST_LANES = 24;
/** The height of a lane, and of thin ones together. CSS pixels, as everything below. */
const LANE = 18;
const THIN_LANES = 360;

interface Lanes {
  readonly placed: readonly { readonly job: Job; readonly lane: number }[];
  readonly count: number;
  readonly pitch: number;
  /** Whether each lane is one job's. */
  readonly own: boolean;
  /** 1 where all jobs are drawn, 2 for every second one. */
  readonly every: number;
}

/**
 * A lane for each job where they are few. Otherwise lanes are used again once a job has left, if {@link MOST_LANES}
 * suffice for that; else all get a thin one.
 */
function arrange(jobs: readonly Job[], gap: number): Lanes {
  const every = Math.max(1, Math.ceil(jobs.length / MOST_JOBS));
  const drawn = jobs.filter((_, index) => index % every === 0);
  const own = drawn.map((job, lane) => ({ job, lane }));
  if (drawn.length > MOST_LANES) {
    const ends: number[] = [];
    const packed = drawn.map((job) => {
      const free = ends.findIndex((end) => end + gap <= job.since);
      const lane = free < 0 ? ends.length : free;
      ends[lane] = job.end ?? Infinity;
      return { job, lane };
    });
    if (ends.length <= MOST_LANES) return { placed: packed, count: ends.length, pitch: LANE, own: false, every };
  }
  const pitch = own.length > MOST_LANES ? THIN_LANES / own.length : LANE;
  return { placed: own, count: own.length, pitch, own: true, every };
}

const TITLE_SIZE = 19;
/** At phone width, 560 become some 360: then this is 10. */
const TEXT_SIZE = 16;
const EDGE = 16;
/** Room for numbers on the left. */
const GUTTER = 44;

/** Light, and dark. The colours of Okabe and Ito, which the colour-blind can tell apart; lanes differ in height, too. */
const COLOURS: Record<string, readonly [property: 'fill' | 'stroke', light: string, dark: string]> = {
  page: ['fill', '#ffffff', '#0d1117'],
  text: ['fill', '#1f2328', '#f0f6fc'],
  muted: ['fill', '#59636e', '#a5adb8'],
  grid: ['stroke', '#e2e6ea', '#2a3038'],
  axis: ['stroke', '#8c959f', '#7d8590'],
  wait: ['fill', '#9aa5b1', '#6b7683'],
  run: ['fill', '#0072b2', '#56b4e9'],
  on: ['fill', '#ffffff', '#0d1117'],
  no: ['stroke', '#d55e00', '#ff8a3d'],
  why: ['fill', '#b34700', '#ff9d5c'],
  pause: ['fill', '#fdeeb5', '#453a12'],
  level: ['stroke', '#007a5a', '#2fc79a'],
  area: ['fill', '#c9ebdf', '#123f33'],
  bound: ['stroke', '#1f2328', '#f0f6fc'],
};

const style = (which: 1 | 2): string => Object.entries(COLOURS).map(([name, colour]) => `.headgate .${name}{${colour[0]}:${colour[which]}}`).join('');

/** Text for XML: what it cannot hold at all is replaced. */
function escape(text: string): string {
  return text
    .replaceAll(/[^\t\n\r\u{20}-\u{d7ff}\u{e000}-\u{fffd}\u{10000}-\u{10ffff}]/gu, '\u{fffd}')
    .replaceAll(/[<>&"']/g, (character) => `&#${character.charCodeAt(0)};`);
}

/** About how wide a text is. */
function widthOf(text: string, size: number): number {
  let width = 0;
  for (const character of text) width += character > '\u{10ff}' ? 1 : 0.53;
  return width * size;
}

/** As much of a text as has room. */
function fit(text: string, size: number, room: number): string {
  if (widthOf(text, size) <= room) return text;
  const kept = [...text];
  while (kept.length > 0 && widthOf(`${kept.join('')}…`, size) > room) kept.pop();
  return `${kept.join('')}…`;
}

/** A number without the noise of rounding. */
function num(value: number): string {
  return String(+value.toPrecision(4));
}

/** A coordinate. */
function at(value: number): string {
  return String(Math.round(value * 10) / 10);
}

/** A step of 1, 2 or 5 times a power of ten that makes at most `most` of them in `span`. */
function niceStep(span: number, most: number): number {
  const power = 10 ** Math.floor(Math.log10(span / most));
  return ([1, 2, 5].find((times) => times * power * most >= span) ?? 10) * power;
}

function describe({ capacity, concurrency, period, burst }: TracedLimits): string {
  const size = capacity === null || burst === null || burst === Math.max(1, capacity) ? '' : `, burst ${num(burst)}`;
  const rate = capacity === null ? 'any rate' : `${num(capacity)} per ${num(period)} s${size}`;
  return `${rate}, ${concurrency ?? 'any number'} at a time`;
}

/** `1 call`, `2 calls`. */
const counted = (count: number, what: string): string => `${count} ${what}${count === 1 ? '' : 's'}`;

/** What became of all calls. */
function outcomes(jobs: readonly Job[]): string {
  const reasons = new Map<string, number>();
  for (const { refused } of jobs) if (refused !== undefined) reasons.set(refused, (reasons.get(refused) ?? 0) + 1);
  const refused = jobs.filter((job) => job.refused !== undefined).length;
  const open = jobs.filter(({ end }) => end === undefined);
  const left = [
    [open.filter(({ granted }) => granted !== undefined).length, 'still running'],
    [open.filter(({ granted }) => granted === undefined).length, 'still waiting'],
  ] as const;
  return [
    counted(jobs.length, 'call'),
    ...(refused > 0 ? [`${refused} refused (${[...reasons].map(([reason, count]) => (count === refused ? reason : `${count} ${reason}`)).join(', ')})`] : []),
    ...left.filter(([count]) => count > 0).map(([count, what]) => `${count} ${what}`),
  ].join(', ');
}

/**
 * Draws a trace as a timeline. From top to bottom: a lane for each job, thin while it waits, thick while it runs, and
 * hollow with a cross and the reason where it was refused; how many ran at once; the tokens; the time in seconds since
 * the first event. A pause is a band behind all of them. What goes on at the end of the trace is drawn to the edge.
 *
 * More than 24 jobs share lanes, if 24 suffice when a lane is used again once a job has left; otherwise each has a thin
 * one. Of more than 200, every second one has a lane, or every third, and so on, and the picture says so; the other two
 * panels count all. So it has the same size, whatever the trace.
 *
 * Between two events tokens flow in evenly, as into a bucket. Where what is known tells otherwise (a sliding window,
 * several rates), the line stays level until the next event: there were at least so many tokens. Without tokens there is
 * no such panel.
 *
 * @param trace From `record`, or a copy of it.
 * @param options {@link TimelineOptions}
 * @returns An SVG document. It has colours for light and dark pages, and a description for who cannot see it.
 * @throws {RangeError | TypeError} `trace` is none, or an option is out of range.
 *
 * @example
 * import { Throttle } from 'headgate';
 * import { record, toSVG } from 'headgate/testing';
 *
 * const throttle = new Throttle(10, 2, 1, { name: 'api' });
 * const trace = record(throttle);
 * await Promise.all(['a', 'b', 'c'].map((name) => throttle.run(async () => name)));
 * console.log(toSVG(trace).slice(0, 4)); // → <svg
 */
export function toSVG(trace: Trace, options: TimelineOptions = {}): string {
  if (!Array.isArray(trace?.events) || typeof trace.limits?.period !== 'number') throw invalid('trace', 'a trace of record()', trace);
  checkObject('options', options);
  const { title = trace.name ?? 'Throttle', from = 0, width = 560 } = options;
  if (typeof title !== 'string') throw invalid('title', 'a string', title);
  checkNumber('from', 'a finite number >= 0', from, 0, Number.MAX_VALUE);
  checkInteger('width', 'an integer from 360 to 4096', width, 360, 4096);
  const story = read(trace);
  const { to = defaultEnd(story, from) } = options;
  checkNumber('to', 'a finite number', to, -Number.MAX_VALUE, Number.MAX_VALUE);
  if (to <= from) throw invalid('to', `more than from, which is ${from}`, to, RangeError);
  return draw(story, title, from, to, width);
}

/** Right after the last event, so that what ended with it can be told from what goes on. */
function defaultEnd({ last, pauses }: Story, from: number): number {
  if (last > from) return from + (last - from) * 1.03;
  const until = pauses.at(-1)?.until ?? Infinity;
  return until > from && until < Infinity ? until : from + 1;
}

function draw(story: Story, title: string, from: number, to: number, width: number): string {
  const left = EDGE + GUTTER;
  const right = width - EDGE;
  const x = (instant: number): number => left + ((Math.min(to, Math.max(from, instant)) - from) / (to - from)) * (right - left);
  const ofPixel = (to - from) / (right - left);

  const { jobs, limits } = story;
  const seen = jobs.filter(({ since, end = Infinity }) => since <= to && end >= from);
  const lanes = arrange(seen, 3 * ofPixel);
  const pauses = story.pauses.filter((pause) => pause.from < to && pause.until > from);

  const words = [
    limits.length === 1 ? describe(story.limits[0]?.limits as TracedLimits) : `${describe(limits[0]?.limits as TracedLimits)}; then ${describe(limits.at(-1)?.limits as TracedLimits)}`,
    `${outcomes(seen)}${lanes.every > 1 ? `; of ${lanes.every} calls, one is drawn` : lanes.own ? '' : '; lanes are shared'}`,
  ] as const;

  const parts: string[] = [];
  const text = (x: number, y: number, content: string, kind = 'muted', more = ''): void => {
    parts.push(`<text x="${at(x)}" y="${at(y)}" class="${kind}" fill="${COLOURS[kind]?.[1]}"${more}>${escape(content)}</text>`);
  };
  const rect = (kind: string, x: number, y: number, width: number, height: number, more = ''): string =>
    `<rect x="${at(x)}" y="${at(y)}" width="${at(width)}" height="${at(height)}" class="${kind}" fill="${COLOURS[kind]?.[1]}"${more}/>`;
  const path = (kind: string, d: string, more = ''): string => {
    const [property, colour] = COLOURS[kind] as (typeof COLOURS)[string];
    return `<path d="${d}" class="${kind}" ${property === 'stroke' ? 'fill="none" stroke' : 'fill'}="${colour}"${more}/>`;
  };

  text(EDGE, 31, fit(title, TITLE_SIZE * 1.05, width - 2 * EDGE), 'text', ` font-size="${TITLE_SIZE}" font-weight="600"`);
  words.forEach((line, index) => text(EDGE, 55 + index * 21, fit(line, TEXT_SIZE, width - 2 * EDGE)));
  let y = 91;

  // The legend: each entry as it is drawn below.
  let entry = EDGE;
  const explain = (what: string, swatch: string): void => {
    parts.push(swatch);
    text(entry + 30, y + 5, what, 'text');
    entry += 30 + widthOf(what, TEXT_SIZE) + 18;
  };
  explain('waits', rect('wait', entry, y - 3, 24, 6));
  explain('runs', rect('run', entry, y - 7, 24, 14, ' rx="2"'));
  if (seen.some(({ refused }) => refused !== undefined)) explain('refused', hollow(entry, y, 20, 6) + cross(entry + 20, y, 5));
  if (pauses.length > 0) explain('paused', rect('pause', entry, y - 9, 24, 18));
  y += 22;

  // What lies behind everything is drawn once it is known how far it reaches, and put here.
  const background = parts.length;
  const top = y;
  if (pauses.length > 0) {
    let free = left;
    for (const pause of pauses) {
      const label = pause.until < Infinity ? `paused ${num(pause.until - pause.from)} s` : 'paused';
      const wide = widthOf(label, TEXT_SIZE);
      const start = Math.max(left, Math.min((x(pause.from) + x(pause.until) - wide) / 2, right - wide));
      if (start < free) continue;
      text(start, y + 16, label, 'text');
      free = start + wide + 8;
    }
    y += 22;
  }

  y += 4;
  for (const { job, lane } of lanes.placed) {
    const middle = y + (lane + 0.5) * lanes.pitch;
    parts.push(drawJob(job, middle));
    // A label for each lane, or for as many as have room.
    if (lanes.own && (lanes.pitch >= LANE ? true : job.number % niceStep(seen.length, 8) === 0)) {
      text(left - 8, middle + 5.5, String(job.number), 'muted', ' text-anchor="end"');
    }
  }
  y += Math.max(lanes.count * lanes.pitch, LANE) + 8;

  panel('running at once', running(jobs, to), 'run', 'bound', limits.map(({ from: since, limits: { concurrency } }) => [since, concurrency]), 48);
  if (story.readings.length > 0) panel('tokens', levels(story, to), 'area', 'level', limits.map(({ from: since, limits: { burst } }) => [since, burst]), 72);

  const bottom = y;
  const back = [...pauses.map((pause) => rect('pause', x(pause.from), top, Math.max(1, x(pause.until) - x(pause.from)), bottom - top))];
  const step = niceStep(to - from, Math.floor((right - left) / 64));
  for (let index = Math.ceil(from / step - 1e-9); index * step <= to; index++) {
    const place = x(index * step);
    const label = num(index * step);
    back.push(path('grid', `M${at(place)} ${at(top)}V${at(bottom)}`));
    if (place + widthOf(label, TEXT_SIZE) / 2 < right - 14) text(place, bottom + 20, label, 'muted', ' text-anchor="middle"');
  }
  for (const { from: since } of limits) if (since >= from && since <= to) back.push(path('axis', `M${at(x(since))} ${at(top)}V${at(bottom)}`, ' stroke-dasharray="6 4"'));
  text(right, bottom + 20, 's', 'muted', ' text-anchor="end"');
  parts.splice(background, 0, ...back);
  const height = Math.ceil(bottom + 34);

  const held = pauses.map((pause) => ` Paused from ${num(pause.from)} s ${pause.until < Infinity ? `to ${num(pause.until)} s` : 'on'}.`).join('');
  const peak = clip(running(jobs, to), from, to).reduce((most, [, count]) => Math.max(most, count), 0);
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" class="headgate" viewBox="0 0 ${width} ${height}" width="${width}" height="${height}" font-family="system-ui, -apple-system, 'Segoe UI', Helvetica, Arial, sans-serif" font-size="${TEXT_SIZE}" role="img">`,
    `<title>${escape(title)}: ${escape(words[0])}</title>`,
    `<desc>A timeline from ${num(from)} s to ${num(Math.min(to, Math.max(from, story.last)))} s. ${escape(words[1])}. At most ${peak} at once.${held}</desc>`,
    `<style>${style(1)}@media (prefers-color-scheme:dark){${style(2)}}</style>`,
    rect('page', 0.5, 0.5, width - 1, height - 1, ` rx="8" stroke="${COLOURS['axis']?.[1]}" stroke-opacity="0.4"`),
    ...parts,
    '</svg>\n',
  ].join('\n');

  function hollow(start: number, middle: number, length: number, tall: number): string {
    return path('no', `M${at(start)} ${at(middle - tall / 2)}h${at(length)}v${at(tall)}h${at(-length)}z`, ' stroke-width="1.5" stroke-dasharray="4 2"');
  }

  function cross(place: number, middle: number, arm: number): string {
    return path('no', `M${at(place - arm)} ${at(middle - arm)}l${at(2 * arm)} ${at(2 * arm)}m0 ${at(-2 * arm)}l${at(-2 * arm)} ${at(2 * arm)}`, ' stroke-width="2.5"');
  }

  function drawJob({ number, cost, since, granted, end, refused }: Job, middle: number): string {
    const waits = Math.min(lanes.pitch * 0.6, 6);
    const runs = Math.min(lanes.pitch, 14);
    const arm = Math.min(5, Math.max(2, lanes.pitch / 3));
    const roomy = lanes.pitch >= LANE;
    const until = granted ?? end ?? Infinity;
    const drawn: string[] = [];
    const about = [`call ${number}, cost ${num(cost)}`];
    if (refused !== undefined && end !== undefined) {
      about.push(`refused: ${refused}`);
      // The cross has to be within the axes.
      const place = Math.min(Math.max(x(end), left + arm), right - arm);
      if (x(end) - x(since) >= 1) drawn.push(hollow(x(since), middle, x(end) - x(since), waits));
      if (end <= to) {
        drawn.push(cross(place, middle, arm));
        if (roomy) {
          const wide = widthOf(refused, TEXT_SIZE);
          const beyond = place + arm + 5 + wide <= right;
          drawn.push(`<text x="${at(beyond ? place + arm + 5 : place - arm - 5)}" y="${at(middle + 5.5)}" class="why" fill="${COLOURS['why']?.[1]}"${beyond ? '' : ' text-anchor="end"'}>${escape(refused)}</text>`);
        }
      }
    } else if (until > since && since <= to && x(until) > x(since)) {
      drawn.push(rect('wait', x(since), middle - waits / 2, x(until) - x(since), waits));
    }
    if (granted !== undefined && granted <= to && (end ?? Infinity) >= from) {
      const long = Math.max(2, x(end ?? Infinity) - x(granted));
      const start = Math.min(x(granted), right - long);
      drawn.push(rect('run', start, middle - runs / 2, long, runs, roomy && end !== undefined ? ' rx="2"' : ''));
      if (granted > -Infinity) about.push(`waited ${num(granted - since)} s`);
      if (end !== undefined && granted > -Infinity) about.push(`ran ${num(end - granted)} s`);
      const label = `cost ${num(cost)}`;
      if (roomy && cost !== 1 && lanes.own && widthOf(label, TEXT_SIZE) + 8 <= long) {
        drawn.push(`<text x="${at(start + long / 2)}" y="${at(middle + 5.5)}" class="on" fill="${COLOURS['on']?.[1]}" text-anchor="middle">${label}</text>`);
      }
    }
    return `<g class="job"><title>${escape(about.join(', '))}</title>${drawn.join('')}</g>`;
  }

  /** A line on a scale of its own, filled down to zero, with its bound. */
  function panel(name: string, line: readonly Point[], fill: string, stroke: string, bounds: readonly (readonly [since: number, bound: number | null])[], tall: number): void {
    const part = clip(line, from, to);
    const known = bounds.filter(([since]) => since <= to).map(([, bound]) => bound ?? 0);
    const high = part.reduce((most, [, value]) => Math.max(most, value), Math.max(...known)) || 1;
    const low = part.reduce((least, [, value]) => Math.min(least, value), 0);
    text(left, y + 16, name, 'text');
    const floor = y + 26 + tall;
    const place = (value: number): number => floor - ((value - low) / (high - low)) * tall;
    const d = reduce(part).map(([instant, value], index) => `${index === 0 ? 'M' : 'L'}${at(x(instant))} ${at(place(value))}`).join('');
    if (part.length > 0) {
      const [first, last] = [part[0] as Point, part.at(-1) as Point];
      parts.push(path(fill, `${d}L${at(x(last[0]))} ${at(place(0))}L${at(x(first[0]))} ${at(place(0))}Z`));
      if (fill !== 'run') parts.push(path(stroke, d, ' stroke-width="2"'));
    }
    parts.push(path('axis', `M${at(left)} ${at(place(0))}H${at(right)}`));
    bounds.forEach(([since, bound], index) => {
      const until = bounds[index + 1]?.[0] ?? Infinity;
      if (bound !== null && since <= to && until >= from) parts.push(path('bound', `M${at(x(since))} ${at(place(bound))}H${at(x(until))}`, ' stroke-dasharray="2 3"'));
    });
    for (const value of new Set([high, 0, low])) text(left - 8, place(value) + 5.5, num(value), 'muted', ' text-anchor="end"');
    y = floor + 10;
  }

  /** As much of a line as can be seen: of what falls on one pixel, the first, the least, the most and the last. */
  function reduce(line: readonly Point[]): Point[] {
    const columns = new Map<number, Point[]>();
    for (const point of line) {
      const column = Math.round(x(point[0]) * 2);
      const same = columns.get(column);
      if (same === undefined) columns.set(column, [point]);
      else same.push(point);
    }
    return [...columns.values()].flatMap((points) => {
      if (points.length <= 4) return points;
      const byValue = points.toSorted(([, a], [, b]) => a - b);
      const kept = new Set([points[0], byValue[0], byValue.at(-1), points.at(-1)]);
      return points.filter((point) => kept.has(point));
    });
  }
}
