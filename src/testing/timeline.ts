/**
 * A trace as a picture: who waited and who ran when, how many at once, how many tokens were left, and the pauses.
 * First the story is read out of the events (`read`, `levels`), then places are given out (`arrange`), then drawn. No
 * DOM and no clock: the same trace makes the same text everywhere.
 */
import { checkInteger, checkNumber, checkObject, invalid } from '../core/validation.js';
import type { Trace, TracedLimits } from './recorder.js';

/** What {@link toSVG} draws, and how large. */
export interface TimelineOptions {
  /** The headline. Default: the name of the throttle. */
  title?: string | undefined;
  /** Where the time axis begins: seconds after the first event, >= 0. Default 0. */
  since?: number | undefined;
  /** Where it ends: seconds after the first event. Default: right after the last event. */
  until?: number | undefined;
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

/** The tokens right before and after an event, and how they flow in from then on: `rate` per second, up to `most`. */
interface Reading {
  readonly at: number;
  readonly before: number;
  readonly after: number;
  readonly rate: number;
  readonly most: number;
}

interface Pause {
  readonly from: number;
  /** `Infinity` where it has no end. */
  until: number;
}

interface Story {
  readonly jobs: readonly Job[];
  readonly pauses: readonly Pause[];
  readonly limits: readonly (TracedLimits & { readonly from: number })[];
  /** Of the events whose tokens are known. */
  readonly readings: readonly Reading[];
  /** The instant of the last event. */
  readonly last: number;
}

function read({ events, limits: first }: Trace): Story {
  const jobs = new Map<number, Job>();
  const pauses: Pause[] = [];
  let current = { ...first, from: -Infinity };
  const limits = [current];
  const readings: Reading[] = [];
  const start = events[0]?.at ?? 0;
  let at = 0;
  for (const [index, event] of events.entries()) {
    const { tokens = NaN } = event;
    // Less than what is finite, so that the time between two events is finite too.
    checkNumber(`trace.events[${index}].at`, 'a finite number', event.at, -1e300, 1e300);
    // A clock may step back; a line does not.
    at = Math.max(at, event.at - start);
    if (event.limits !== undefined) limits.push((current = { ...event.limits, from: at }));
    if (Number.isFinite(tokens)) {
      const most = current.burst ?? Infinity;
      // Read an instant after the grant, when some have flowed in.
      const before = event.kind === 'granted' ? Math.min(tokens + event.cost, most) : tokens;
      readings.push({ at, before, after: tokens, rate: (current.capacity ?? 0) / current.period, most });
    }
    if (event.kind === 'paused') {
      const pause = pauses.at(-1);
      const until = at + (event.seconds ?? Infinity);
      if (pause === undefined || pause.until <= at) {
        if (event.seconds !== 0) pauses.push({ from: at, until });
      } else pause.until = event.seconds === 0 ? at : Math.max(pause.until, until);
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

/**
 * The tokens as a line up to `to`. They are known at the events. In between, a bucket's refill is drawn where that
 * leads to what is known next at least as often as not. Otherwise (sliding windows, several rates) the line stays level and
 * jumps at the next event: there were at least so many.
 */
function levels(readings: readonly Reading[], to: number): Point[] {
  const rise = ({ at, after, rate, most }: Reading, until: number): Point[] => {
    const full = after < most && rate > 0 ? at + (most - after) / rate : at;
    if (full >= until) return [[until, after + rate * (until - at)]];
    return full > at
      ? [
          [full, most],
          [until, most],
        ]
      : [[until, after]];
  };
  let agreed = 0;
  for (const [index, { at, before }] of readings.entries()) {
    const previous = readings[index - 1];
    if (previous === undefined) continue;
    const { rate, most } = previous;
    // What flows in during the grain of a timer says nothing.
    const slack = (most < Infinity ? most * 1e-6 : 0) + rate * 0.002;
    if (previous.after >= most || rate * (at - previous.at) <= 2 * slack) continue;
    const [, expected] = rise(previous, at).at(-1) as Point;
    agreed += Math.abs(expected - before) <= slack ? 1 : -1;
  }
  return readings.flatMap((reading, index) => {
    const { at, before, after } = reading;
    const until = readings[index + 1]?.at ?? to;
    return [
      [at, before],
      [at, after],
      ...(until <= at ? [] : agreed >= 0 ? rise(reading, until) : [[until, after] as const]),
    ];
  });
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
    line.push([at, count], [at, (count += step)]);
  }
  const [changed] = line.at(-1) as Point;
  line.push([Math.max(to, changed), count]);
  return line;
}

/** The part of a line between two instants, which may lie between two of its points. */
function clip(line: readonly Point[], from: number, to: number): Point[] {
  return line.flatMap((point, index) => {
    const [at, value] = point;
    const [earlier, before] = line[index - 1] ?? point;
    const cuts = [from, to]
      .filter((edge) => earlier < edge && at > edge)
      .map((edge): Point => [edge, before + ((value - before) * (edge - earlier)) / (at - earlier)]);
    return at >= from && at <= to ? [...cuts, point] : cuts;
  });
}

/** More than this, and every second one is drawn, or every third, and so on. */
const MOST_JOBS = 200;
/** As many lanes can be told apart, and labelled. More are thin. */
const MOST_LANES = 24;
/** The height of a lane. CSS pixels, as everything below. */
const LANE = 18;

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
  const drawn = jobs.filter((_, index) => index % every === every - 1);
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
  // Thin ones are as high together, however many.
  const pitch = own.length > MOST_LANES ? 360 / own.length : LANE;
  return { placed: own, count: own.length, pitch, own: true, every };
}

const TITLE_SIZE = 19;
/** At phone width, 560 become some 360: then this is 10. */
const TEXT_SIZE = 16;
/** From the middle of a line to where its letters stand. */
const DROP = 5.5;
const EDGE = 16;
/** Room for numbers on the left. */
const GUTTER = 44;

/** Light, and dark. Those of Okabe and Ito, which the colour-blind can tell apart; and no two things differ by colour alone. */
const COLOURS = {
  page: ['fill', '#ffffff', '#0d1117'],
  text: ['fill', '#1f2328', '#f0f6fc'],
  muted: ['fill', '#59636e', '#a5adb8'],
  grid: ['stroke', '#e2e6ea', '#2a3038'],
  axis: ['stroke', '#8c959f', '#7d8590'],
  bound: ['stroke', '#1f2328', '#f0f6fc'],
  wait: ['fill', '#9aa5b1', '#6b7683'],
  run: ['fill', '#0072b2', '#56b4e9'],
  no: ['stroke', '#d55e00', '#ff8a3d'],
  why: ['fill', '#b34700', '#ff9d5c'],
  pause: ['fill', '#fdeeb5', '#453a12'],
  level: ['stroke', '#007a5a', '#2fc79a'],
  area: ['fill', '#c9ebdf', '#123f33'],
} as const satisfies Record<string, readonly ['fill' | 'stroke', light: string, dark: string]>;

type Colour = keyof typeof COLOURS;

/** Scoped, for pictures that stand within a page. */
const style = (theme: 1 | 2): string =>
  Object.entries(COLOURS)
    .map(([name, colour]) => `.headgate .${name}{${colour[0]}:${colour[theme]}}`)
    .join('');

/** Text for XML: what it cannot hold at all is replaced. */
function escape(text: string): string {
  return text
    .replaceAll(/[^\t\n\r\u{20}-\u{d7ff}\u{e000}-\u{fffd}\u{10000}-\u{10ffff}]/gu, '\u{fffd}')
    .replaceAll(/[<>&"']/g, (character) => `&#${character.charCodeAt(0)};`);
}

/** About how wide a text is. */
function widthOf(text: string, size: number = TEXT_SIZE): number {
  let width = 0;
  for (const character of text) width += character > '\u{10ff}' ? 1 : 0.53;
  return width * size;
}

/** As much of a text as has room. */
function fit(text: string, size: number, room: number): string {
  if (widthOf(text, size) <= room) return text;
  let kept = '';
  for (const character of text) {
    if (widthOf(`${kept}${character}…`, size) > room) break;
    kept += character;
  }
  return `${kept}…`;
}

/** A number without the noise of rounding. */
function num(value: number): string {
  return String(Number.isInteger(value) ? value : +value.toPrecision(4));
}

/** A number for the margin, where there is room for some five characters. */
function short(value: number): string {
  const size = Math.abs(value);
  const [unit, letter] = size >= 1e9 ? [1e9, 'G'] : size >= 1e6 ? [1e6, 'M'] : size >= 1e4 ? [1e3, 'k'] : [1, ''];
  return `${+(value / unit).toPrecision(size < 1e4 ? 4 : 3)}${letter}`;
}

/** A coordinate. */
function px(value: number): string {
  return String(Math.round(value * 10) / 10);
}

/** The light colour is an attribute as well, for programs that know no style. */
function paint(colour: Colour): string {
  const [property, light] = COLOURS[colour];
  return `class="${colour}" ${property === 'stroke' ? 'fill="none" ' : ''}${property}="${light}"`;
}

function label(x: number, y: number, content: string, colour: Colour = 'muted', more = ''): string {
  return `<text x="${px(x)}" y="${px(y + DROP)}" ${paint(colour)}${more}>${escape(content)}</text>`;
}

function labelBefore(x: number, y: number, content: string, colour?: Colour): string {
  return label(x, y, content, colour, ' text-anchor="end"');
}

function rect(x: number, y: number, width: number, height: number, colour: Colour, more = ''): string {
  return `<rect x="${px(x)}" y="${px(y)}" width="${px(width)}" height="${px(height)}" ${paint(colour)}${more}/>`;
}

/** A bar with its middle at `y`. */
function bar(x: number, y: number, length: number, height: number, colour: Colour, more = ''): string {
  return rect(x, y - height / 2, length, height, colour, more);
}

/** No element where there is nothing to draw. */
function path(d: string, colour: Colour, more = ''): string {
  return d && `<path d="${d}" ${paint(colour)}${more}/>`;
}

function hollow(x: number, y: number, length: number, height: number): string {
  return path(
    `M${px(x)} ${px(y - height / 2)}h${px(length)}v${px(height)}h${px(-length)}z`,
    'no',
    ' stroke-width="1.5" stroke-dasharray="4 2"',
  );
}

function cross(x: number, y: number, arm: number): string {
  const side = px(2 * arm);
  return path(
    `M${px(x - arm)} ${px(y - arm)}l${side} ${side}m0 -${side}l-${side} ${side}`,
    'no',
    ' stroke-width="2.5"',
  );
}

function dot(x: number, y: number): string {
  return `<circle cx="${px(x)}" cy="${px(y)}" r="3.5" ${paint('why')}/>`;
}

/** A step of 1, 2 or 5 times a power of ten that makes at most `most` of them in `span`. */
function niceStep(span: number, most: number): number {
  const power = 10 ** Math.floor(Math.log10(span / most));
  return ([1, 2, 5].find((times) => times * power * most >= span) ?? 10) * power;
}

function describe({ capacity, concurrency, period, burst }: TracedLimits): string {
  const size = capacity === null || burst === null || burst === Math.max(1, capacity) ? '' : `, burst ${num(burst)}`;
  const rate =
    capacity === null
      ? 'any rate'
      : `${counted(capacity, 'token')} per ${period === 1 ? 'second' : `${num(period)} s`}${size}`;
  return `${rate}, ${concurrency ?? 'any number'} at a time`;
}

/** `1 call`, `2 calls`. */
const counted = (count: number, what: string): string => `${num(count)} ${what}${count === 1 ? '' : 's'}`;

/** What became of all calls. */
function outcomes(jobs: readonly Job[]): string {
  const reasons = new Map<string, number>();
  for (const { refused } of jobs) if (refused !== undefined) reasons.set(refused, (reasons.get(refused) ?? 0) + 1);
  const refused = jobs.filter((job) => job.refused !== undefined).length;
  const why = [...reasons].map(([reason, count]) => (count === refused ? reason : `${count} ${reason}`)).join(', ');
  const open = jobs.filter((job) => job.end === undefined);
  const held = open.filter((job) => job.granted !== undefined).length;
  const left = [
    [refused, `refused (${why})`],
    [held, 'still running'],
    [open.length - held, 'still waiting'],
  ] as const;
  return [
    counted(jobs.length, 'call'),
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
 * panels count all. Pauses that end on one pixel are one band, which tells how many they are; of changes of the limits
 * on one pixel, the last is drawn. So the size of the picture has a bound, however long the trace is.
 *
 * Between two events tokens flow in evenly, as into a bucket. Where what is known tells otherwise (a sliding window,
 * several rates), the line stays level until the next event: there were at least so many tokens. Without tokens there is
 * no such panel; where they are not finite, they are not known.
 *
 * @param trace From `record`, or a copy of it.
 * @param options {@link TimelineOptions}
 * @returns An SVG document. It has colours for light and dark pages, and a description for who cannot see it.
 * @throws {RangeError | TypeError} `trace` is none, an instant in it is no finite number, or an option is out of range.
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
  if (!Array.isArray(trace?.events) || typeof trace.limits?.period !== 'number')
    throw invalid('trace', 'a trace of record()', trace);
  checkObject('options', options);
  const { title = trace.name ?? 'Throttle', since = 0, width = 560 } = options;
  if (typeof title !== 'string') throw invalid('title', 'a string', title);
  checkNumber('since', 'a finite number >= 0', since, 0, Number.MAX_VALUE);
  checkInteger('width', 'an integer from 360 to 4096', width, 360, 4096);
  const story = read(trace);
  const { until = defaultEnd(story, since) } = options;
  checkNumber('until', 'a finite number', until, -Number.MAX_VALUE, Number.MAX_VALUE);
  if (until <= since) throw invalid('until', `more than since, which is ${since}`, until, RangeError);
  return draw(story, title, since, until, width);
}

/** Right after the last event, so that what ended with it can be told from what goes on. */
function defaultEnd({ last, pauses }: Story, from: number): number {
  if (last > from) return from + (last - from) * 1.03;
  const until = pauses.at(-1)?.until ?? Infinity;
  return until > from && until < Infinity ? until : from + Math.max(1, from / 1e9);
}

/** The time axis. */
interface Axis {
  readonly from: number;
  readonly to: number;
  readonly left: number;
  readonly right: number;
  /** Where an instant is drawn; one outside, at the edge. */
  readonly x: (instant: number) => number;
}

function draw(story: Story, title: string, from: number, to: number, width: number): string {
  const left = EDGE + GUTTER;
  const right = width - EDGE;
  const axis: Axis = {
    from,
    to,
    left,
    right,
    x: (instant) => left + ((Math.min(to, Math.max(from, instant)) - from) / (to - from)) * (right - left),
  };
  const jobs = story.jobs.filter(({ since, end = Infinity }) => since <= to && end >= from);
  const lanes = arrange(jobs, (3 * (to - from)) / (right - left));
  const pauses = story.pauses.filter((pause) => pause.from < to && pause.until > from);
  const busy = running(story.jobs, to);
  const words = wordsOf(story, jobs, lanes);

  const front: string[] = [];
  front.push(
    label(
      EDGE,
      25,
      fit(title, TITLE_SIZE * 1.2, width - 2 * EDGE),
      'text',
      ` font-size="${TITLE_SIZE}" font-weight="600"`,
    ),
  );
  let y = 50;
  for (const line of words) {
    front.push(label(EDGE, y, fit(line, TEXT_SIZE, width - 2 * EDGE)));
    y += 21;
  }
  front.push(
    ...drawLegend(
      y + 12,
      lanes.placed.some(({ job }) => job.refused !== undefined),
      pauses.length > 0,
    ),
  );
  y += 34;

  const top = y;
  const bands = bandsOf(pauses, axis, y + 11);
  front.push(...bands.map(({ told }) => told));
  if (pauses.length > 0) y += 22;
  front.push(...drawLanes(lanes, axis, y + 4));
  y += Math.max(lanes.count * lanes.pitch, LANE) + 12;
  // Of those that came on one pixel, the last is what stayed.
  const shown = onPixels(
    story.limits.filter((entry) => entry.from <= to),
    (entry) => axis.x(entry.from),
  ).map((same) => same.at(-1) as Story['limits'][number]);
  const panels: Panel[] = [{ name: 'running at once', line: busy, bound: 'concurrency', height: 48, area: 'run' }];
  if (story.readings.length > 0)
    panels.push({
      name: 'tokens',
      line: levels(story.readings, to),
      bound: 'burst',
      height: 72,
      area: 'area',
      stroke: 'level',
    });
  for (const panel of panels) {
    front.push(...drawPanel(panel, story.limits, shown, axis, y));
    y += panel.height + PANEL;
  }

  const changes = shown
    .map((entry) => (entry.from < from ? '' : `M${px(axis.x(entry.from))} ${px(top)}V${px(y)}`))
    .join('');
  const back = [
    ...bands.map(({ start, wide }) => rect(start, top, wide, y - top, 'pause')),
    ...drawTicks(axis, top, y),
    path(changes, 'axis', ' stroke-dasharray="6 4"'),
  ];

  const height = Math.ceil(y + 34);
  const most = Math.max(0, ...visible(clip(busy, from, to), axis.x).map(([, value]) => value));
  const held = pauses
    .slice(0, 10)
    .map((pause) => ` Paused from ${num(pause.from)} s ${pause.until < Infinity ? `to ${num(pause.until)} s` : 'on'}.`);
  if (pauses.length > 10) held.push(` ${counted(pauses.length, 'pause')} in all.`);
  const about = `A timeline from ${num(from)} s to ${num(Math.min(to, Math.max(from, story.last)))} s. ${words.slice(1).join('. ')}. At most ${most} at once.${held.join('')}`;
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" class="headgate" viewBox="0 0 ${width} ${height}" width="${width}" height="${height}" font-family="system-ui, -apple-system, 'Segoe UI', Helvetica, Arial, sans-serif" font-size="${TEXT_SIZE}" role="img">`,
    `<title>${escape(`${title}: ${words[0]}`)}</title>`,
    `<desc>${escape(about)}</desc>`,
    `<style>${style(1)}@media (prefers-color-scheme:dark){${style(2)}}</style>`,
    rect(0.5, 0.5, width - 1, height - 1, 'page', ' rx="8" stroke="#8c959f" stroke-opacity="0.4"'),
    ...back,
    ...front,
    '</svg>\n',
  ]
    .filter(Boolean)
    .join('\n');
}

/** What is said below the title: the limits, and what became of the calls. */
function wordsOf({ limits }: Story, jobs: readonly Job[], lanes: Lanes): string[] {
  const spared = lanes.every > 1 ? `; 1 in ${lanes.every} is drawn` : lanes.own ? '' : '; lanes are shared';
  const changed = limits
    .slice(1)
    .slice(-1)
    .map((last) => `${limits.length > 2 ? 'in the end' : 'then'} ${describe(last)}`);
  return [...limits.slice(0, 1).map(describe), ...changed, `${outcomes(jobs)}${spared}`];
}

/** Each look as it is drawn below, with its name. */
function drawLegend(y: number, refusals: boolean, pauses: boolean): string[] {
  const looks: [name: string, swatch: (x: number) => string][] = [
    ['waits', (x) => bar(x, y, 24, 6, 'wait')],
    ['runs', (x) => bar(x, y, 24, 14, 'run', ' rx="2"')],
  ];
  if (refusals) looks.push(['refused', (x) => hollow(x, y, 20, 6) + cross(x + 20, y, 5)]);
  if (pauses) looks.push(['paused', (x) => bar(x, y, 24, 18, 'pause')]);
  let x = EDGE;
  return looks.map(([name, swatch]) => {
    const drawn = swatch(x) + label(x + 31, y, name, 'text');
    x += 31 + widthOf(name) + 18;
    return drawn;
  });
}

/** A pause as it is drawn, or several that end on one pixel. */
interface Band {
  readonly start: number;
  readonly wide: number;
  /** How long it is, or how many there are, where there is room for it. */
  readonly told: string;
}

function bandsOf(pauses: Story['pauses'], { left, right, x }: Axis, y: number): Band[] {
  let free = left;
  return onPixels(pauses, ({ until }) => x(until)).map((same) => {
    const [{ from }, { until }] = [same[0], same.at(-1)] as [Pause, Pause];
    const wide = Math.max(1, x(until) - x(from));
    const start = Math.min(x(from), right - wide);
    const name =
      same.length > 1 ? counted(same.length, 'pause') : until < Infinity ? `paused ${num(until - from)} s` : 'paused';
    const length = widthOf(name);
    const place = Math.max(left, Math.min(start + (wide - length) / 2, right - length));
    if (place < free) return { start, wide, told: '' };
    free = place + length + 8;
    return { start, wide, told: label(place, y, name, 'text') };
  });
}

function drawLanes(lanes: Lanes, axis: Axis, top: number): string[] {
  // A number for each lane, or for as many as have room.
  const numbered = lanes.pitch === LANE ? 1 : niceStep(lanes.count * lanes.every, 8);
  return lanes.placed.map(({ job, lane }, index) => {
    const y = top + (lane + 0.5) * lanes.pitch;
    const before = lanes.placed[index - 1]?.job.number ?? job.number - 1;
    const named = lanes.own && Math.floor(before / numbered) < Math.floor(job.number / numbered);
    return `${drawJob(job, lanes, axis, y)}${named ? labelBefore(axis.left - 8, y, short(job.number)) : ''}`;
  });
}

function drawJob(
  { number, cost, since, granted, end = Infinity, refused }: Job,
  { pitch, own }: Lanes,
  { from, to, left, right, x }: Axis,
  y: number,
): string {
  const roomy = pitch === LANE;
  const thin = Math.min(pitch * 0.6, 6);
  const thick = Math.min(pitch, 14);
  const about = [`call ${number}`, `cost ${num(cost)}`];
  let drawn = '';
  const waited = x(granted ?? end) - x(since);
  if (refused !== undefined) {
    about.push(`refused: ${refused}`);
    const arm = Math.min(5, Math.max(2, pitch / 3));
    const place = Math.min(Math.max(x(end), left + arm), right - arm);
    if (waited >= 1) drawn += hollow(x(since), y, waited, thin);
    if (end <= to) drawn += cross(place, y, arm);
    if (end <= to && roomy)
      drawn +=
        place + arm + 5 + widthOf(refused) <= right
          ? label(place + arm + 5, y, refused, 'why')
          : labelBefore(place - arm - 5, y, refused, 'why');
  } else if (waited >= 0.5) drawn += bar(x(since), y, waited, thin, 'wait');

  if (granted !== undefined) {
    if (granted > -Infinity) about.push(`waited ${num(granted - since)} s`);
    if (granted > -Infinity && end < Infinity) about.push(`ran ${num(end - granted)} s`);
    if (granted <= to && end >= from) {
      const length = Math.max(2, x(end) - x(granted));
      const start = Math.min(x(granted), right - length);
      drawn += bar(start, y, length, thick, 'run', roomy && end < Infinity ? ' rx="2"' : '');
      // Nobody else comes into a lane of one's own.
      const price = `cost ${num(cost)}`;
      if (roomy && own && cost !== 1 && start + length + 5 + widthOf(price) <= right)
        drawn += label(start + length + 5, y, price);
    }
  }
  return `<g class="job"><title>${escape(about.join(', '))}</title>${drawn}</g>`;
}

/** A line on a scale of its own, filled down to zero. */
interface Panel {
  readonly name: string;
  readonly line: readonly Point[];
  /** Which of the limits is the most that there can be. */
  readonly bound: 'concurrency' | 'burst';
  readonly height: number;
  readonly area: Colour;
  /** The line itself, with a dot where nothing is left; absent for the area alone. */
  readonly stroke?: Colour;
}

/** What a panel takes beside its height: above for its name, and below. */
const PANEL = 38;

function drawPanel(
  { name, line, bound, height, area, stroke }: Panel,
  limits: Story['limits'],
  shown: Story['limits'],
  axis: Axis,
  top: number,
): string[] {
  const { left, right, x } = axis;
  const part = visible(clip(line, axis.from, axis.to), x);
  const values = part.map(([, value]) => value);
  const high = Math.max(0, ...values, ...shown.map((entry) => entry[bound] ?? 0)) || 1;
  // Less than can be seen below zero is what rounding left.
  const low = Math.min(0, ...values.filter((value) => value < -high / height));
  const floor = top + 28 + height;
  const y = (value: number): number => floor - (Math.max(0, value - low) / (high - low)) * height;

  const only = limits[0]?.[bound] ?? null;
  const heading =
    only === null || limits.some((entry) => entry[bound] !== only) ? name : `${name}, at most ${num(only)}`;
  const drawn = [label(left, top + 12, heading, 'text')];
  const [first] = part;
  const last = part.at(-1);
  if (first !== undefined && last !== undefined) {
    const d = part
      .map(([instant, value], index) => `${index === 0 ? 'M' : 'L'}${px(x(instant))} ${px(y(value))}`)
      .join('');
    drawn.push(path(`${d}L${px(x(last[0]))} ${px(y(0))}L${px(x(first[0]))} ${px(y(0))}Z`, area));
    if (stroke !== undefined) drawn.push(path(d, stroke, ' stroke-width="2"'));
  }
  drawn.push(path(`M${px(left)} ${px(y(0))}H${px(right)}`, 'axis'));
  const bounds = shown
    .map((entry, index) =>
      entry[bound] === null
        ? ''
        : `M${px(x(entry.from))} ${px(y(entry[bound]))}H${px(x(shown[index + 1]?.from ?? Infinity))}`,
    )
    .join('');
  drawn.push(path(bounds, 'bound', ' stroke-dasharray="2 3"'));
  if (stroke !== undefined) {
    // So few count as none: they flow in before a timer fires.
    const dots = apart(
      part.filter(([, value]) => value <= 0.02 * high).map(([instant, value]): Point => [x(instant), y(value)]),
      6,
    );
    const start = left + widthOf(heading) + 20;
    if (dots.length > 0) drawn.push(dot(start, top + 12), label(start + 9, top + 12, 'none left', 'why'));
    drawn.push(...dots.map((point) => dot(...point)));
  }
  const marks = floor - y(0) < TEXT_SIZE ? [high, 0] : [high, 0, low];
  return [...drawn, ...marks.map((value) => labelBefore(left - 8, y(value), short(value)))];
}

/** The points that are at least `gap` to the right of the one before. */
function apart(points: readonly Point[], gap: number): Point[] {
  let free = -Infinity;
  return points.filter(([x]) => {
    if (x < free) return false;
    free = x + gap;
    return true;
  });
}

/** What falls on the same pixel, together. */
function onPixels<T>(items: readonly T[], x: (item: T) => number): T[][] {
  const columns = new Map<number, T[]>();
  for (const item of items) {
    const column = Math.round(x(item));
    const same = columns.get(column) ?? [];
    columns.set(column, same);
    same.push(item);
  }
  return [...columns.values()];
}

/** As much of a line as can be seen: of what falls on one pixel, the first, the least, the most and the last. */
function visible(line: readonly Point[], x: Axis['x']): Point[] {
  return onPixels(line, ([at]) => x(at)).flatMap((points) => {
    if (points.length <= 4) return points;
    const byValue = points.toSorted(([, a], [, b]) => a - b);
    const kept = new Set([points[0], byValue[0], byValue.at(-1), points.at(-1)]);
    return points.filter((point) => kept.has(point));
  });
}

function drawTicks({ from, to, left, right, x }: Axis, top: number, bottom: number): string[] {
  let most = Math.floor((right - left) / 64);
  let step = niceStep(to - from, most);
  const nameOf = (tick: number): string =>
    String(+tick.toFixed(Math.min(100, Math.max(0, -Math.floor(Math.log10(step))))));
  while (most > 1 && widthOf(nameOf(to)) + 8 > (step / (to - from)) * (right - left))
    step = niceStep(to - from, --most);
  // Rounding may put the first one just before the axis.
  const slack = 1e-6;
  const first = Math.ceil(from / step - slack);
  // So late that numbers are further apart than steps, several are the same.
  const ticks = new Set(Array.from({ length: most + 1 }, (_, index) => (first + index) * step));
  const marks = [...ticks]
    .filter((tick) => tick >= from - slack * step && tick <= to)
    .map((tick) => {
      const name = nameOf(tick);
      // The unit has the end of the axis.
      const room = x(tick) + widthOf(name) / 2 < right - 14;
      return `${path(`M${px(x(tick))} ${px(top)}V${px(bottom)}`, 'grid')}${room ? label(x(tick), bottom + 15, name, 'muted', ' text-anchor="middle"') : ''}`;
    });
  return [...marks, labelBefore(right, bottom + 15, 's')];
}
