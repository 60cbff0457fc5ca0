/** Draws the parts of the timeline, from top to bottom, and joins them to a document. */
import { formatCount, formatNumber, formatShort } from './format.js';
import {
  type Axis,
  assignLanes,
  createAxis,
  LANE_HEIGHT,
  type LaneLayout,
  MARGIN,
  niceStep,
  pauseBands,
  spaceOut,
} from './layout.js';
import { clipLine, groupByPixel, type Point, runningLine, thinLine, tokenLine } from './lines.js';
import type { Call, DatedBound, History } from './read.js';
import { describePicture, summaryLines } from './summary.js';
import {
  bar,
  type Colour,
  cross,
  dot,
  escapeXml,
  label,
  labelBefore,
  outline,
  path,
  px,
  rect,
  styleElement,
  TEXT_SIZE,
  textWidth,
  TITLE_SIZE,
  truncate,
} from './svg.js';

const FONT = "system-ui, -apple-system, 'Segoe UI', Helvetica, Arial, sans-serif";

export function drawTimeline(history: History, title: string, from: number, to: number, width: number): string {
  const axis = createAxis(from, to, width);
  const calls = history.calls.filter(({ calledAt, endedAt }) => calledAt <= to && endedAt >= from);
  const lanes = assignLanes(calls, (3 * (to - from)) / (axis.right - axis.left));
  const pauses = history.pauses.filter((pause) => pause.from < to && pause.until > from);
  const bands = pauseBands(pauses, axis);
  const running = runningLine(history.calls, to);
  const lines = summaryLines(history, calls, lanes);
  const textRoom = width - 2 * MARGIN;

  const headline = truncate(title, TITLE_SIZE * 1.2, textRoom);
  const front = [label(MARGIN, 25, headline, 'text', ` font-size="${TITLE_SIZE}" font-weight="600"`)];
  let y = 50;
  for (const line of lines) {
    front.push(label(MARGIN, y, truncate(line, TEXT_SIZE, textRoom)));
    y += 21;
  }
  const hasRefusals = lanes.placed.some(({ call }) => call.refused);
  front.push(...drawLegend(y + 12, hasRefusals, pauses.length > 0));
  y += 34;

  const top = y;
  front.push(...bands.map(({ name, nameX }) => name && label(nameX, y + 11, name, 'text')));
  if (pauses.length > 0) y += 22;
  front.push(...drawLanes(lanes, axis, y + 4));
  y += Math.max(lanes.count * lanes.pitch, LANE_HEIGHT) + 12;
  const visibleLimits = latestByPixel(history.limits, axis);
  for (const panel of panelsOf(history, running, to)) {
    front.push(...drawPanel(panel, axis, y));
    y += panel.height + PANEL_MARGIN;
  }

  const changes = visibleLimits
    .map((entry) => (entry.from < from ? '' : `M${px(axis.x(entry.from))} ${px(top)}V${px(y)}`))
    .join('');
  const back = [
    ...bands.map((band) => rect(band.start, top, band.width, y - top, 'pause')),
    ...drawTicks(axis, top, y),
    path(changes, 'axis', ' stroke-dasharray="6 4"'),
  ];

  const height = Math.ceil(y + 34);
  const maxRunning = Math.max(0, ...thinLine(clipLine(running, from, to), axis.x).map(([, value]) => value));
  const lastShown = Math.min(to, Math.max(from, history.lastEventAt));
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" class="headgate" viewBox="0 0 ${width} ${height}" width="${width}" ` +
      `height="${height}" font-family="${FONT}" font-size="${TEXT_SIZE}" role="img">`,
    `<title>${escapeXml(`${title}: ${lines[0]}`)}</title>`,
    `<desc>${escapeXml(describePicture(lines, pauses, maxRunning, from, lastShown))}</desc>`,
    styleElement(),
    rect(0.5, 0.5, width - 1, height - 1, 'page', ' rx="8" stroke="#8c959f" stroke-opacity="0.4"'),
    ...back,
    ...front,
    '</svg>\n',
  ]
    .filter(Boolean)
    .join('\n');
}

/** Draws a sample of each kind of bar, with its name. */
function drawLegend(y: number, hasRefusals: boolean, hasPauses: boolean): string[] {
  const samples: [name: string, draw: (x: number) => string][] = [
    ['waits', (x) => bar(x, y, 24, 6, 'wait')],
    ['runs', (x) => bar(x, y, 24, 14, 'run', ' rx="2"')],
  ];
  if (hasRefusals) samples.push(['refused', (x) => outline(x, y, 20, 6) + cross(x + 20, y, 5)]);
  if (hasPauses) samples.push(['paused', (x) => bar(x, y, 24, 18, 'pause')]);
  let x = MARGIN;
  return samples.map(([name, draw]) => {
    const drawn = draw(x) + label(x + 31, y, name, 'text');
    x += 31 + textWidth(name) + 18;
    return drawn;
  });
}

function drawLanes(lanes: LaneLayout, axis: Axis, top: number): string[] {
  // Thin lanes have no room for a number each: at most eight of them are numbered.
  const numberEvery = lanes.pitch === LANE_HEIGHT ? 1 : niceStep(lanes.count * lanes.every, 8);
  return lanes.placed.map(({ call, lane }, index) => {
    const y = top + (lane + 0.5) * lanes.pitch;
    const previous = lanes.placed[index - 1]?.call.number ?? call.number - 1;
    const numbered = lanes.own && Math.floor(previous / numberEvery) < Math.floor(call.number / numberEvery);
    const drawn = drawCall(call, lanes, axis, y);
    return numbered ? drawn + labelBefore(axis.left - 8, y, formatShort(call.number)) : drawn;
  });
}

function drawCall(
  { number, cost, costs, slots, calledAt, grantedAt, endedAt, refused }: Call,
  { pitch, own }: LaneLayout,
  { from, to, left, right, x }: Axis,
  y: number,
): string {
  const hasText = pitch === LANE_HEIGHT;
  const thickness = Math.min(pitch * 0.6, 6);
  const waitLength = x(grantedAt < Infinity ? grantedAt : endedAt) - x(calledAt);
  const costText = `cost ${formatNumber(cost)}`;
  const tooltip = [`call ${number}`, costText];
  for (const [name, tokens] of Object.entries(costs)) tooltip.push(`${formatNumber(tokens)} of ${name}`);
  if (slots !== 1) tooltip.push(formatCount(slots, 'slot'));
  let drawn = '';
  if (refused) {
    tooltip.push(`refused: ${refused}`);
    if (waitLength >= 1) drawn += outline(x(calledAt), y, waitLength, thickness);
    if (endedAt <= to) {
      const arm = Math.min(5, Math.max(2, pitch / 3));
      const crossX = Math.min(Math.max(x(endedAt), left + arm), right - arm);
      const textX = crossX + arm + 5;
      drawn += cross(crossX, y, arm);
      if (hasText)
        drawn +=
          textX + textWidth(refused) <= right
            ? label(textX, y, refused, 'why')
            : labelBefore(crossX - arm - 5, y, refused, 'why');
    }
  } else if (waitLength >= 0.5) drawn += bar(x(calledAt), y, waitLength, thickness, 'wait');

  if (Number.isFinite(grantedAt)) {
    tooltip.push(`waited ${formatNumber(grantedAt - calledAt)} s`);
    if (endedAt < Infinity) tooltip.push(`ran ${formatNumber(endedAt - grantedAt)} s`);
  }
  if (grantedAt <= to && endedAt >= from) {
    const length = Math.max(2, x(endedAt) - x(grantedAt));
    const start = Math.min(x(grantedAt), right - length);
    const textX = start + length + 5;
    drawn += bar(start, y, length, Math.min(pitch, 14), 'run', hasText && endedAt < Infinity ? ' rx="2"' : '');
    // In a shared lane the next call may need the room of the text.
    if (hasText && own && cost !== 1 && textX + textWidth(costText) <= right) drawn += label(textX, y, costText);
  }
  return `<g class="job"><title>${escapeXml(tooltip.join(', '))}</title>${drawn}</g>`;
}

/** The changes that the picture shows. Of several changes on one pixel, the last one applies. */
function latestByPixel<T extends { readonly from: number }>(changes: readonly T[], { to, x }: Axis): T[] {
  return groupByPixel(
    changes.filter(({ from }) => from <= to),
    ({ from }) => x(from),
  ).map((group) => group.at(-1) as T);
}

/** A line with a vertical scale of its own, filled down to zero. */
interface Panel {
  readonly name: string;
  readonly line: readonly Point[];
  /** The limit that bounds the values, and every change. */
  readonly bounds: readonly DatedBound[];
  readonly height: number;
  readonly area: Colour;
  /** The colour of the line, with a dot wherever the value is about zero. Absent for a panel with the area only. */
  readonly stroke?: Colour;
}

/** The height above and below the line of a panel, for its name and a gap. */
const PANEL_MARGIN = 38;

function panelsOf(history: History, running: readonly Point[], to: number): Panel[] {
  const slots = history.limits.map(({ from, concurrency }) => ({ from, value: concurrency }));
  const isWeighted = history.calls.some((call) => call.slots !== 1);
  const panels: Panel[] = [
    { name: isWeighted ? 'slots in use' : 'running at once', line: running, bounds: slots, height: 48, area: 'run' },
  ];
  const hasNames = history.rates.some(({ name }) => name !== undefined);
  for (const { name = hasNames ? 'main rate' : 'tokens', bounds, readings } of history.rates) {
    const line = tokenLine(readings, to);
    panels.push({ name, line, bounds, height: 72, area: 'area', stroke: 'level' });
  }
  return panels;
}

function drawPanel({ name, line, bounds, height, area, stroke }: Panel, axis: Axis, top: number): string[] {
  const { left, right, x } = axis;
  const visibleBounds = latestByPixel(bounds, axis);
  const visible = thinLine(clipLine(line, axis.from, axis.to), x);
  const values = visible.map(([, value]) => value);
  const high = Math.max(0, ...values, ...visibleBounds.map(({ value }) => value ?? 0)) || 1;
  // A value less than a pixel below zero is a rounding error.
  const low = Math.min(0, ...values.filter((value) => value < -high / height));
  const floor = top + 28 + height;
  const y = (value: number): number => floor - (Math.max(0, value - low) / (high - low)) * height;

  const constant = bounds[0]?.value ?? null;
  const full =
    constant === null || bounds.some(({ value }) => value !== constant)
      ? name
      : `${name}, at most ${formatNumber(constant)}`;
  const heading = truncate(full, TEXT_SIZE, right - left - 120);
  const drawn = [label(left, top + 12, heading, 'text')];
  const [first] = visible;
  const last = visible.at(-1);
  if (first !== undefined && last !== undefined) {
    const d = visible
      .map(([instant, value], index) => `${index === 0 ? 'M' : 'L'}${px(x(instant))} ${px(y(value))}`)
      .join('');
    drawn.push(path(`${d}L${px(x(last[0]))} ${px(y(0))}L${px(x(first[0]))} ${px(y(0))}Z`, area));
    if (stroke !== undefined) drawn.push(path(d, stroke, ' stroke-width="2"'));
  }
  drawn.push(path(`M${px(left)} ${px(y(0))}H${px(right)}`, 'axis'));
  const boundLine = visibleBounds
    .map(({ from, value }, index) =>
      value === null ? '' : `M${px(x(from))} ${px(y(value))}H${px(x(visibleBounds[index + 1]?.from ?? Infinity))}`,
    )
    .join('');
  drawn.push(path(boundLine, 'bound', ' stroke-dasharray="2 3"'));
  if (stroke !== undefined) {
    // A level of at most 2 % counts as none: so much refills before a timer fires.
    const empty = visible.filter(([, value]) => value <= 0.02 * high);
    const dots = spaceOut(
      empty.map(([instant, value]): Point => [x(instant), y(value)]),
      6,
    );
    const start = left + textWidth(heading) + 20;
    if (dots.length > 0) drawn.push(dot(start, top + 12), label(start + 9, top + 12, 'none left', 'why'));
    drawn.push(...dots.map((point) => dot(...point)));
  }
  const marks = floor - y(0) < TEXT_SIZE ? [high, 0] : [high, 0, low];
  return [...drawn, ...marks.map((value) => labelBefore(left - 8, y(value), formatShort(value)))];
}

/** Draws the marks of the time axis, with their names if there is room. */
function drawTicks({ from, to, left, right, x }: Axis, top: number, bottom: number): string[] {
  let maxTicks = Math.floor((right - left) / 64);
  let step = niceStep(to - from, maxTicks);
  const nameOf = (tick: number): string =>
    String(+tick.toFixed(Math.min(100, Math.max(0, -Math.floor(Math.log10(step))))));
  while (maxTicks > 1 && textWidth(nameOf(to)) + 8 > (step / (to - from)) * (right - left))
    step = niceStep(to - from, --maxTicks);
  // Rounding may compute the first tick slightly before the start of the axis.
  const tolerance = 1e-6;
  const first = Math.ceil(from / step - tolerance);
  // Very late instants are so far apart as numbers that several ticks can be equal. The set removes the duplicates.
  const ticks = new Set(Array.from({ length: maxTicks + 1 }, (_, index) => (first + index) * step));
  const marks = [...ticks]
    .filter((tick) => tick >= from - tolerance * step && tick <= to)
    .map((tick) => {
      const name = nameOf(tick);
      const line = path(`M${px(x(tick))} ${px(top)}V${px(bottom)}`, 'grid');
      // The label `s` stands at the right end of the axis. A tick name that would overlap the label is not drawn.
      return x(tick) + textWidth(name) / 2 < right - 14
        ? line + label(x(tick), bottom + 15, name, 'muted', ' text-anchor="middle"')
        : line;
    });
  return [...marks, labelBefore(right, bottom + 15, 's')];
}
