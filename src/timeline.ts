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
    if (event.tokens !== undefined) {
      // Read an instant after the grant, when some have flowed in.
      const before = event.kind === 'granted' ? Math.min(event.tokens + event.cost, limits.at(-1)?.limits.burst ?? Infinity) : event.tokens;
      readings.push({ at, before, after: event.tokens });
    }
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
  return (limits.findLast(({ from }) => from <= at) as Story['limits'][number]).limits;
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
  const [changed] = line.at(-1) as Point;
  line.push([Math.max(to, changed), count]);
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
  const drawn = jobs.filter((_, index) => (index + 1) % every === 0);
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
const LINE = 21;
/** From the middle of a line to where its letters stand. */
const DROP = 5.5;
const EDGE = 16;
/** Room for numbers on the left. */
const GUTTER = 44;
/** A part of the most tokens that counts as none: what flows in before a timer fires. */
const SCARCE = 0.02;

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
const style = (theme: 1 | 2): string => Object.entries(COLOURS).map(([name, colour]) => `.headgate .${name}{${colour[0]}:${colour[theme]}}`).join('');

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

/** `2nd`, `10th`. */
function ordinal(value: number): string {
  const tens = value % 100 > 10 && value % 100 < 14;
  return `${value}${(tens ? undefined : ['th', 'st', 'nd', 'rd'][value % 10]) ?? 'th'}`;
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

function path(d: string, colour: Colour, more = ''): string {
  return `<path d="${d}" ${paint(colour)}${more}/>`;
}

function hollow(x: number, y: number, length: number, height: number): string {
  return path(`M${px(x)} ${px(y - height / 2)}h${px(length)}v${px(height)}h${px(-length)}z`, 'no', ' stroke-width="1.5" stroke-dasharray="4 2"');
}

function cross(x: number, y: number, arm: number): string {
  const side = px(2 * arm);
  return path(`M${px(x - arm)} ${px(y - arm)}l${side} ${side}m0 -${side}l-${side} ${side}`, 'no', ' stroke-width="2.5"');
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
  const rate = capacity === null ? 'any rate' : `${counted(capacity, 'token')} per ${period === 1 ? 'second' : `${num(period)} s`}${size}`;
  return `${rate}, ${concurrency ?? 'any number'} at a time`;
}

/** `1 call`, `2 calls`. */
const counted = (count: number, what: string): string => `${num(count)} ${what}${count === 1 ? '' : 's'}`;

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
  const axis: Axis = { from, to, left, right, x: (instant) => left + ((Math.min(to, Math.max(from, instant)) - from) / (to - from)) * (right - left) };
  const jobs = story.jobs.filter(({ since, end = Infinity }) => since <= to && end >= from);
  const lanes = arrange(jobs, (3 * (to - from)) / (right - left));
  const pauses = story.pauses.filter((pause) => pause.from < to && pause.until > from);
  const busy = running(story.jobs, to);
  const words = wordsOf(story, jobs, lanes);

  const front: string[] = [];
  front.push(label(EDGE, 25, fit(title, TITLE_SIZE * 1.2, width - 2 * EDGE), 'text', ` font-size="${TITLE_SIZE}" font-weight="600"`));
  let y = 50;
  for (const line of words) {
    front.push(label(EDGE, y, fit(line, TEXT_SIZE, width - 2 * EDGE)));
    y += LINE;
  }
  front.push(...drawLegend(y + 12, lanes.placed.some(({ job }) => job.refused !== undefined), pauses.length > 0));
  y += 34;

  const top = y;
  if (pauses.length > 0) {
    front.push(...namePauses(pauses, axis, y + 11));
    y += 22;
  }
  front.push(...drawLanes(lanes, axis, y + 4));
  y += Math.max(lanes.count * lanes.pitch, LANE) + 12;
  front.push(...drawPanel({ name: 'running at once', line: busy, bounds: story.limits.map((entry) => [entry.from, entry.limits.concurrency]), height: 48, area: 'run' }, axis, y));
  y += 48 + PANEL;
  if (story.readings.length > 0) {
    front.push(...drawPanel({ name: 'tokens', line: levels(story, to), bounds: story.limits.map((entry) => [entry.from, entry.limits.burst]), height: 72, area: 'area', stroke: 'level' }, axis, y));
    y += 72 + PANEL;
  }

  const changes = story.limits.map((entry) => entry.from).filter((since) => since >= from && since <= to);
  const back = [
    ...pauses.map((pause) => {
      const wide = Math.max(1, axis.x(pause.until) - axis.x(pause.from));
      return rect(Math.min(axis.x(pause.from), right - wide), top, wide, y - top, 'pause');
    }),
    ...drawTicks(axis, top, y),
    ...changes.map((since) => path(`M${px(axis.x(since))} ${px(top)}V${px(y)}`, 'axis', ' stroke-dasharray="6 4"')),
  ];

  const height = Math.ceil(y + 34);
  const most = clip(busy, from, to).reduce((peak, [, count]) => Math.max(peak, count), 0);
  const held = pauses.map((pause) => ` Paused from ${num(pause.from)} s ${pause.until < Infinity ? `to ${num(pause.until)} s` : 'on'}.`).join('');
  const about = `A timeline from ${num(from)} s to ${num(Math.min(to, Math.max(from, story.last)))} s. ${words.slice(1).join('. ')}. At most ${most} at once.${held}`;
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" class="headgate" viewBox="0 0 ${width} ${height}" width="${width}" height="${height}" font-family="system-ui, -apple-system, 'Segoe UI', Helvetica, Arial, sans-serif" font-size="${TEXT_SIZE}" role="img">`,
    `<title>${escape(`${title}: ${words[0]}`)}</title>`,
    `<desc>${escape(about)}</desc>`,
    `<style>${style(1)}@media (prefers-color-scheme:dark){${style(2)}}</style>`,
    rect(0.5, 0.5, width - 1, height - 1, 'page', ' rx="8" stroke="#8c959f" stroke-opacity="0.4"'),
    ...back,
    ...front,
    '</svg>\n',
  ].join('\n');
}

/** What is said below the title: the limits, and what became of the calls. */
function wordsOf({ limits }: Story, jobs: readonly Job[], lanes: Lanes): string[] {
  const described = limits.map((entry) => describe(entry.limits));
  const spared = lanes.every > 1 ? `; every ${ordinal(lanes.every)} is drawn` : lanes.own ? '' : '; lanes are shared';
  const changed = limits.length > 1 ? [`${limits.length > 2 ? 'in the end' : 'then'} ${described.at(-1)}`] : [];
  return [...described.slice(0, 1), ...changed, `${outcomes(jobs)}${spared}`];
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
    x += 31 + widthOf(name, TEXT_SIZE) + 18;
    return drawn;
  });
}

/** How long each pause is, where there is room for it. */
function namePauses(pauses: Story['pauses'], { left, right, x }: Axis, y: number): string[] {
  let free = left;
  return pauses.map(({ from, until }) => {
    const name = until < Infinity ? `paused ${num(until - from)} s` : 'paused';
    const wide = widthOf(name, TEXT_SIZE);
    const start = Math.max(left, Math.min((x(from) + x(until) - wide) / 2, right - wide));
    if (start < free) return '';
    free = start + wide + 8;
    return label(start, y, name, 'text');
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

function drawJob({ number, cost, since, granted, end = Infinity, refused }: Job, { pitch, own }: Lanes, { from, to, left, right, x }: Axis, y: number): string {
  const roomy = pitch === LANE;
  const thin = Math.min(pitch * 0.6, 6);
  const thick = Math.min(pitch, 14);
  const about = [`call ${number}`, `cost ${num(cost)}`];
  const drawn: string[] = [];
  const waited = x(granted ?? end) - x(since);
  if (refused !== undefined) {
    about.push(`refused: ${refused}`);
    const arm = Math.min(5, Math.max(2, pitch / 3));
    const place = Math.min(Math.max(x(end), left + arm), right - arm);
    if (waited >= 1) drawn.push(hollow(x(since), y, waited, thin));
    if (end <= to) drawn.push(cross(place, y, arm));
    if (end <= to && roomy) drawn.push(place + arm + 5 + widthOf(refused, TEXT_SIZE) <= right ? label(place + arm + 5, y, refused, 'why') : labelBefore(place - arm - 5, y, refused, 'why'));
  } else if (waited >= 0.5) drawn.push(bar(x(since), y, waited, thin, 'wait'));

  if (granted !== undefined) {
    if (granted > -Infinity) about.push(`waited ${num(granted - since)} s`);
    if (granted > -Infinity && end < Infinity) about.push(`ran ${num(end - granted)} s`);
    if (granted <= to && end >= from) {
      const length = Math.max(2, x(end) - x(granted));
      const start = Math.min(x(granted), right - length);
      drawn.push(bar(start, y, length, thick, 'run', roomy && end < Infinity ? ' rx="2"' : ''));
      // Nobody else comes into a lane of one's own.
      const price = `cost ${num(cost)}`;
      if (roomy && own && cost !== 1 && start + length + 5 + widthOf(price, TEXT_SIZE) <= right) drawn.push(label(start + length + 5, y, price));
    }
  }
  return `<g class="job"><title>${escape(about.join(', '))}</title>${drawn.join('')}</g>`;
}

/** A line on a scale of its own, filled down to zero. */
interface Panel {
  readonly name: string;
  readonly line: readonly Point[];
  /** The most that there can be, and since when; `null` for no bound. */
  readonly bounds: readonly (readonly [since: number, most: number | null])[];
  readonly height: number;
  readonly area: Colour;
  /** The line itself, with a dot where nothing is left; absent for the area alone. */
  readonly stroke?: Colour;
}

/** What a panel takes beside its height: above for its name, and below. */
const PANEL = 38;

function drawPanel({ name, line, bounds, height, area, stroke }: Panel, axis: Axis, top: number): string[] {
  const { left, right, x } = axis;
  const part = clip(line, axis.from, axis.to);
  const shown = bounds.filter(([since], index) => since <= axis.to && (bounds[index + 1]?.[0] ?? Infinity) >= axis.from);
  const high = [...part, ...shown].reduce((most, [, value]) => Math.max(most, value ?? 0), 0) || 1;
  // Less than can be seen below zero is what rounding left.
  const least = part.reduce((lowest, [, value]) => Math.min(lowest, value), 0);
  const low = least < -high / height ? least : 0;
  const floor = top + 28 + height;
  const y = (value: number): number => floor - (Math.max(0, value - low) / (high - low)) * height;

  const [, only = null] = bounds[0] ?? [];
  const heading = only === null || bounds.some(([, most]) => most !== only) ? name : `${name}, at most ${num(only)}`;
  const drawn = [label(left, top + 12, heading, 'text')];
  const [first, last] = [part[0], part.at(-1)];
  if (first !== undefined && last !== undefined) {
    const d = visible(part, x).map(([instant, value], index) => `${index === 0 ? 'M' : 'L'}${px(x(instant))} ${px(y(value))}`).join('');
    drawn.push(path(`${d}L${px(x(last[0]))} ${px(y(0))}L${px(x(first[0]))} ${px(y(0))}Z`, area));
    if (stroke !== undefined) drawn.push(path(d, stroke, ' stroke-width="2"'));
  }
  drawn.push(path(`M${px(left)} ${px(y(0))}H${px(right)}`, 'axis'));
  for (const [since, most] of shown) {
    const until = bounds.find(([later]) => later > since)?.[0] ?? Infinity;
    if (most !== null) drawn.push(path(`M${px(x(since))} ${px(y(most))}H${px(x(until))}`, 'bound', ' stroke-dasharray="2 3"'));
  }
  if (stroke !== undefined) {
    const dots = apart(part.filter(([, value]) => value <= SCARCE * high).map(([instant, value]): Point => [x(instant), y(value)]), 6);
    const start = left + widthOf(heading, TEXT_SIZE) + 20;
    if (dots.length > 0) drawn.push(dot(start, top + 12), label(start + 9, top + 12, 'none left', 'why'));
    drawn.push(...dots.map(([dotX, dotY]) => dot(dotX, dotY)));
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

/** As much of a line as can be seen: of what falls on one pixel, the first, the least, the most and the last. */
function visible(line: readonly Point[], x: Axis['x']): Point[] {
  const columns = new Map<number, Point[]>();
  for (const point of line) {
    const column = Math.round(x(point[0]));
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

function drawTicks({ from, to, left, right, x }: Axis, top: number, bottom: number): string[] {
  let most = Math.floor((right - left) / 64);
  let step = niceStep(to - from, most);
  const nameOf = (tick: number): string => String(+tick.toFixed(Math.min(100, Math.max(0, -Math.floor(Math.log10(step))))));
  while (most > 1 && widthOf(nameOf(to), TEXT_SIZE) + 8 > (step / (to - from)) * (right - left)) step = niceStep(to - from, --most);
  // Rounding may put the first one just before the axis.
  const slack = 1e-6;
  const first = Math.ceil(from / step - slack);
  // So late that numbers are further apart than steps, several are the same.
  const ticks = new Set(Array.from({ length: most + 1 }, (_, index) => (first + index) * step));
  const marks = [...ticks].filter((tick) => tick >= from - slack * step && tick <= to).map((tick) => {
    const name = nameOf(tick);
    // The unit has the end of the axis.
    const room = x(tick) + widthOf(name, TEXT_SIZE) / 2 < right - 14;
    return `${path(`M${px(x(tick))} ${px(top)}V${px(bottom)}`, 'grid')}${room ? label(x(tick), bottom + 15, name, 'muted', ' text-anchor="middle"') : ''}`;
  });
  return [...marks, labelBefore(right, bottom + 15, 's')];
}
