/** `toSVG`: what the picture says, and that it says so within its frame whatever the trace. */
import { readFileSync } from 'node:fs';
import fc from 'fast-check';
import { Throttle, type ThrottleOptions } from 'headgate';
import { ManualClock, record, type TimelineOptions, toSVG, type Trace, type TraceEvent } from 'headgate/testing';
import { describe, expect, test } from 'vitest';
import { drawDemoScenario } from '../../bench/demo-scenario.js';

interface Element {
  name: string;
  attributes: Record<string, string>;
  children: Element[];
  text: string;
}

const decode = (text: string): string =>
  text.replaceAll(/&#(\d+);/g, (_, code: string) => String.fromCharCode(Number(code)));

/** Reads as much of XML as the pictures use, and fails on everything else. */
function parse(xml: string): Element {
  expect(xml).not.toMatch(
    // eslint-disable-next-line no-control-regex -- what XML cannot hold
    /[\0-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]|[\ud800-\udbff](?![\udc00-\udfff])|(?<![\ud800-\udbff])[\udc00-\udfff]/,
  );
  const root: Element = { name: '', attributes: {}, children: [], text: '' };
  const open = [root];
  const token = /<\/([a-z]+)>|<([a-z]+)((?: [a-zA-Z-]+="[^"<&]*(?:&#\d+;[^"<&]*)*")*)(\/?)>|((?:[^<>&]|&#\d+;)+)/gy;
  let read = 0;
  for (const [whole, closed, name, attributes = '', empty, text] of xml.matchAll(token)) {
    read += whole.length;
    const inner = open.at(-1) as Element;
    if (closed !== undefined) expect(open.pop()?.name).toBe(closed);
    else if (text !== undefined) inner.text += decode(text);
    else if (name !== undefined) {
      const pairs = [...attributes.matchAll(/ ([a-zA-Z-]+)="([^"]*)"/g)].map(
        ([, key = '', value = '']) => [key, decode(value)] as const,
      );
      expect(new Set(pairs.map(([key]) => key)).size, whole).toBe(pairs.length);
      const element: Element = { name, attributes: Object.fromEntries(pairs), children: [], text: '' };
      inner.children.push(element);
      if (empty === '') open.push(element);
    }
  }
  expect(xml.slice(read, read + 80)).toBe('');
  expect(open.length).toBe(1);
  expect(root.children.length).toBe(1);
  return root.children[0] as Element;
}

const all = (element: Element): Element[] => [element, ...element.children.flatMap(all)];
const named = (element: Element, name: string): Element[] => all(element).filter((one) => one.name === name);
const classed = (element: Element, name: string): Element[] =>
  all(element).filter((one) => one.attributes['class'] === name);
const texts = (element: Element): string[] => named(element, 'text').map(({ text }) => text);
const jobs = (element: Element): Element[] => classed(element, 'job');
const number = (element: Element, attribute: string): number => Number(element.attributes[attribute]);
/** What stands in the margin, or before something. */
const marks = (element: Element): string[] =>
  named(element, 'text')
    .filter((text) => text.attributes['text-anchor'] === 'end')
    .map(({ text }) => text);
const headline = (element: Element): string | undefined =>
  named(element, 'text').find((text) => text.attributes['font-weight'] === '600')?.text;
const bars = (element: Element): Element[] => jobs(element).flatMap((job) => named(job, 'rect'));
/** The corners of a path of absolute moves and lines. */
const corners = (path: Element | undefined): [x: number, y: number][] =>
  [...(path?.attributes['d'] ?? '').matchAll(/[ML](-?[\d.]+) (-?[\d.]+)/g)].map(([, x, y]) => [Number(x), Number(y)]);

const WIDTH = 560;
const LEFT = 60;
const RIGHT = WIDTH - 16;

const limits = { capacity: 4, concurrency: 2, period: 1, burst: 4 };
const traceOf = (events: readonly TraceEvent[], more: Partial<Trace> = {}): Trace => ({ limits, events, ...more });

/** A throttle at work, and what was recorded of it. */
async function played(
  [capacity, concurrency, options = {}]: [capacity: number, concurrency: number, options?: ThrottleOptions],
  script: (throttle: Throttle, clock: ManualClock, sleep: (seconds: number) => Promise<void>) => Promise<void>,
): Promise<Trace> {
  const clock = new ManualClock(1000);
  const throttle = new Throttle(capacity, concurrency, 1, { clock, ...options });
  using trace = record(throttle);
  await script(throttle, clock, (seconds) => new Promise((resolve) => void clock.schedule(seconds, resolve)));
  return structuredClone(trace);
}

const backlog = (count: number, seconds = 0.2): Promise<Trace> =>
  played([20, 4], async (throttle, clock, sleep) => {
    for (let n = 0; n < count; n++) void throttle.run(() => sleep(seconds));
    await clock.runAll();
  });

describe('lanes', () => {
  test('each job waits, runs and ends in one of its own, where and for as long as it did', () => {
    const svg = parse(
      toSVG(
        traceOf([
          { kind: 'granted', at: 10, id: 7, cost: 1, waited: 0 },
          { kind: 'queued', at: 12, id: 9, cost: 2 },
          { kind: 'released', at: 14, id: 7, cost: 1 },
          { kind: 'granted', at: 14, id: 9, cost: 2, waited: 2 },
          { kind: 'released', at: 16, id: 9, cost: 2 },
        ]),
        { until: 8 },
      ),
    );
    const x = (seconds: number): number => LEFT + (seconds / 8) * (RIGHT - LEFT);
    const [first, second] = jobs(svg) as [Element, Element];
    expect(jobs(svg).length).toBe(2);
    const seen = (job: Element): unknown =>
      named(job, 'rect').map((rect) => [rect.attributes['class'], number(rect, 'x'), number(rect, 'width')]);
    expect(seen(first)).toEqual([['run', LEFT, x(4) - LEFT]]);
    expect(seen(second)).toEqual([
      ['wait', x(2), x(4) - x(2)],
      ['run', x(4), x(6) - x(4)],
    ]);
    expect(texts(second)).toEqual(['cost 2']);
    expect(named(second, 'title').map(({ text }) => text)).toEqual(['call 2, cost 2, waited 2 s, ran 2 s']);
    const [waits, runs] = named(second, 'rect') as [Element, Element];
    expect(number(waits, 'y') + number(waits, 'height') / 2).toBe(number(runs, 'y') + number(runs, 'height') / 2);
    expect(number(runs, 'y')).toBeGreaterThan(number(named(first, 'rect')[0] as Element, 'y') + 14);
    expect(texts(svg)).toEqual(expect.arrayContaining(['1', '2', '2 calls', '4 tokens per second, 2 at a time']));
  });

  test('who was refused has another look, a cross and the reason', () => {
    const svg = parse(
      toSVG(
        traceOf([
          { kind: 'granted', at: 0, id: 1, cost: 1, waited: 0 },
          { kind: 'queued', at: 0, id: 2, cost: 1 },
          { kind: 'refused', at: 1, id: 2, cost: 1, reason: 'timeout' },
          { kind: 'refused', at: 1.5, id: 3, cost: 1, reason: 'queue full' },
          { kind: 'released', at: 2, id: 1, cost: 1 },
          { kind: 'refused', at: 2, id: 4, cost: 1, reason: 'busy' },
        ]),
      ),
    );
    const [, late, turnedAway, last] = jobs(svg) as [Element, Element, Element, Element];
    expect(named(late, 'rect')).toEqual([]);
    expect(classed(late, 'no').length).toBe(2);
    expect(texts(late)).toEqual(['timeout']);
    // Never in the queue: nothing but the cross.
    expect(classed(turnedAway, 'no').length).toBe(1);
    expect(texts(turnedAway)).toEqual(['queue full']);
    // At the end of the axis, the reason stands before the cross.
    expect(named(last, 'text')[0]?.attributes['text-anchor']).toBe('end');
    expect(texts(svg)).toContain('4 calls, 3 refused (1 timeout, 1 queue full, 1 busy)');
    expect(texts(svg)).toContain('refused');
  });

  test('what goes on at the end is drawn to the edge; what ended with the last event is not', async () => {
    const trace = await played([10, 2], async (throttle, clock) => {
      void throttle.acquire();
      const second = throttle.tryAcquire();
      void throttle.acquire().catch(() => {});
      await clock.advance(1);
      throttle.configure({ concurrency: 1 });
      second?.release();
    });
    const svg = parse(toSVG(trace));
    const ends = bars(svg).map((rect) => number(rect, 'x') + number(rect, 'width'));
    expect(ends[0]).toBe(RIGHT);
    expect(ends[1]).toBeLessThan(RIGHT - 10);
    expect(ends[2]).toBe(RIGHT);
    expect(texts(svg)).toContain('3 calls, 1 still running, 1 still waiting');
  });

  test('what is too short to be seen is drawn as short as can be, within the axes', () => {
    const call = (at: number, id: number): TraceEvent[] => [
      { kind: 'granted', at, id, cost: 1, waited: 0 },
      { kind: 'released', at, id, cost: 1 },
    ];
    const svg = parse(
      toSVG(
        traceOf([
          ...call(0, 1),
          { kind: 'refused', at: 0, id: 2, cost: 1, reason: 'busy' },
          { kind: 'paused', at: 9.999, seconds: 0.001 },
          ...call(10, 3),
          { kind: 'refused', at: 10, id: 4, cost: 1, reason: 'busy' },
        ]),
        { until: 10 },
      ),
    );
    expect(bars(svg).map((rect) => [number(rect, 'x'), number(rect, 'width')])).toEqual([
      [LEFT, 2],
      [RIGHT - 2, 2],
    ]);
    const crosses = jobs(svg)
      .flatMap((job) => classed(job, 'no'))
      .map(({ attributes }) => attributes['d']);
    expect(crosses).toEqual([expect.stringMatching(`^M${LEFT} `), expect.stringMatching(`^M${RIGHT - 10} `)]);
    const band = classed(svg, 'pause').find((rect) => number(rect, 'height') > 50) as Element;
    expect([number(band, 'x'), number(band, 'width')]).toEqual([RIGHT - 1, 1]);
  });

  test('who came before the record is drawn from its edge', () => {
    const svg = parse(
      toSVG(
        traceOf([
          { kind: 'released', at: 5, id: 1, cost: 1 },
          { kind: 'granted', at: 6, id: 2, cost: 1, waited: 100 },
          { kind: 'released', at: 7, id: 2, cost: 1 },
        ]),
      ),
    );
    expect(bars(svg).map((rect) => [rect.attributes['class'], number(rect, 'x')])).toEqual([
      ['run', LEFT],
      ['wait', LEFT],
      ['run', expect.any(Number)],
    ]);
  });

  test('more than 24 jobs share lanes where 24 are enough, and no two of them overlap', async () => {
    const trace = await played([50, 4], async (throttle, clock, sleep) => {
      for (let n = 0; n < 150; n++) {
        void throttle.run(() => sleep(0.05 + (n % 7) / 20));
        await clock.advance((n % 5) / 40);
      }
      await clock.runAll();
    });
    const svg = parse(toSVG(trace));
    expect(texts(svg)).toContain('150 calls; lanes are shared');
    expect(jobs(svg).length).toBe(150);
    const lanes = new Map<number, [from: number, to: number][]>();
    for (const job of jobs(svg)) {
      const rects = named(job, 'rect');
      const middle = number(rects[0] as Element, 'y') + number(rects[0] as Element, 'height') / 2;
      const edges = rects.flatMap((rect) => [number(rect, 'x'), number(rect, 'x') + number(rect, 'width')]);
      lanes.set(middle, [...(lanes.get(middle) ?? []), [Math.min(...edges), Math.max(...edges)]]);
    }
    expect(lanes.size).toBeLessThanOrEqual(24);
    for (const lane of lanes.values())
      lane
        .toSorted(([a], [b]) => a - b)
        .forEach(([from], index, sorted) => expect(from).toBeGreaterThanOrEqual((sorted[index - 1]?.[1] ?? 0) - 0.1));
    // No numbers, since a lane is nobody's own: the panels' and the unit of time are all.
    expect(marks(svg)).toEqual(['s', '4', '0', '50', '0']);
  });

  test.each([
    [20, 20, ''],
    [24, 24, ''],
    [25, 25, ''],
    [200, 200, ''],
    [201, 100, '; 1 in 2 is drawn'],
    [2000, 200, '; 1 in 10 is drawn'],
  ])('of %i jobs that wait at once, %i have a lane%s, and the picture stays as high', async (count, drawn, note) => {
    const text = toSVG(await backlog(count));
    const svg = parse(text);
    expect(jobs(svg).length).toBe(drawn);
    expect(texts(svg)).toContain(`${count} calls${note}`);
    const tops = new Set(jobs(svg).map((job) => number(classed(job, 'run')[0] as Element, 'y')));
    expect(tops.size).toBe(drawn);
    expect(number(svg, 'height')).toBeLessThan(850);
    expect(text.length).toBeLessThan(120_000);
  });

  test('as many lanes have a number as there is room for', async () => {
    expect(marks(parse(toSVG(await backlog(5))))).toEqual(['s', '1', '2', '3', '4', '5', '4', '0', '20', '0']);
    expect(marks(parse(toSVG(await backlog(200))))).toEqual(['s', '50', '100', '150', '200', '4', '0', '20', '0']);
    expect(marks(parse(toSVG(await backlog(2000))))).toEqual(['s', '500', '1000', '1500', '2000', '4', '0', '20', '0']);
    // The first of every 7th from each 200 on.
    expect(marks(parse(toSVG(await backlog(1300))))).toEqual([
      's',
      '203',
      '406',
      '602',
      '805',
      '1001',
      '1204',
      '4',
      '0',
      '20',
      '0',
    ]);
  });
});

describe('tokens', () => {
  /** The line, in tokens and seconds, by the marks of its axis. */
  const levels = (text: string, most: number, seconds: number): [at: number, tokens: number][] => {
    const svg = parse(text);
    const line = corners(classed(svg, 'level')[0]);
    const bound = classed(svg, 'bound')
      .at(-1)
      ?.attributes['d']?.match(/M[\d.]+ ([\d.]+)/)?.[1];
    const zero = classed(svg, 'axis')
      .findLast(({ attributes }) => attributes['d']?.includes('H'))
      ?.attributes['d']?.match(/M[\d.]+ ([\d.]+)/)?.[1];
    const [top, floor] = [Number(bound), Number(zero)];
    return line.map(([x, y]) => [((x - LEFT) / (RIGHT - LEFT)) * seconds, ((floor - y) / (floor - top)) * most]);
  };
  const rounded = (line: [number, number][]): [number, number][] =>
    line.map(([at, tokens]) => [Math.round(at * 10) / 10, Math.round(tokens * 10) / 10]);

  test('flow in between events, up to the burst', async () => {
    const trace = await played([4, 0], async (throttle, clock) => {
      throttle.tryAcquire(4);
      await clock.advance(0.5);
      throttle.tryAcquire(1);
      await clock.advance(2.5);
      throttle.tryAcquire(2);
    });
    const line = rounded(levels(toSVG(trace, { until: 4 }), 4, 4));
    expect(line).toEqual(
      [
        [0, 4],
        [0, 0],
        [0.5, 2],
        [0.5, 2],
        [0.5, 1],
        [1.3, 4],
        [3, 4],
        [3, 4],
        [3, 2],
        [3.5, 4],
        [4, 4],
      ].map(([at, tokens]) => [at, tokens]),
    );
  });

  test('are seen in a part of the time as they are in the whole', async () => {
    const trace = await played([4, 0], async (throttle, clock) => {
      throttle.tryAcquire(4);
      await clock.advance(4);
      throttle.tryAcquire(1);
    });
    const line = corners(classed(parse(toSVG(trace, { since: 0.5, until: 0.75 })), 'level')[0]);
    const whole = corners(classed(parse(toSVG(trace, { until: 1 })), 'level')[0]);
    const [empty, full] = [Math.max(...whole.map(([, y]) => y)), Math.min(...whole.map(([, y]) => y))];
    expect(line).toEqual([
      [LEFT, expect.closeTo((empty + full) / 2, 0)],
      [RIGHT, expect.closeTo(full + (empty - full) / 4, 0)],
    ]);
  });

  test.each([
    [1e6, '1M'],
    [12_345, '12.3k'],
    [9_999, '9999'],
    [0.25, '0.25'],
    [2e9, '2G'],
  ])('of a burst of %d have a short mark', (burst, mark) => {
    const svg = parse(
      toSVG({ limits: { ...limits, burst }, events: [{ kind: 'paused', at: 0, seconds: 1, tokens: burst }] }),
    );
    expect(marks(svg).at(-2)).toBe(mark);
  });

  test('stay level where what comes next tells that they do not flow evenly', async () => {
    const trace = await played([4, 2, { window: 'sliding' }], async (throttle, clock, sleep) => {
      for (let n = 0; n < 8; n++) void throttle.run(() => sleep(0.3));
      await clock.runAll();
    });
    const line = rounded(levels(toSVG(trace, { until: 3 }), 4, 3));
    for (const [index, [at, tokens]] of line.entries()) {
      const [before, level] = line[index - 1] ?? [at, tokens];
      if (at > before) expect(tokens).toBe(level);
    }
    expect(line).toContainEqual([1, 2]);
  });

  test('a debt is below zero; where nothing is left, there is a dot', async () => {
    const trace = await played([4, 0], async (throttle, clock) => {
      throttle.tryAcquire(1)?.settle(5);
      await clock.advance(0.25);
      throttle.tryAcquire(0)?.release();
      await clock.advance(2);
      throttle.tryAcquire(1);
    });
    const svg = parse(toSVG(trace));
    expect(texts(svg)).toContain('none left');
    // The first reading is of the grant, before it was settled.
    expect(named(svg, 'circle').length).toBeGreaterThan(1);
    // After a refill of 1 in 0.25 s, of a debt of 1, it is none: seen before that.
    const deep = parse(
      toSVG(
        traceOf([
          { kind: 'granted', at: 0, id: 1, cost: 1, waited: 0, tokens: 3 },
          { kind: 'released', at: 1, id: 1, cost: 6, tokens: -2 },
        ]),
      ),
    );
    expect(marks(deep).slice(-3)).toEqual(['4', '0', '-2']);
    const zero = Number(
      classed(deep, 'axis')
        .at(-1)
        ?.attributes['d']?.match(/M[\d.]+ ([\d.]+)/)?.[1],
    );
    expect(Math.max(...corners(classed(deep, 'level')[0]).map(([, y]) => y))).toBeCloseTo(zero + 24, 0);
    // What rounding left is not worth a mark.
    expect(marks(parse(toSVG(traceOf([{ kind: 'paused', at: 0, seconds: 1, tokens: -1e-13 }])))).slice(-2)).toEqual([
      '4',
      '0',
    ]);
    const full = parse(toSVG(await played([4, 0], async (throttle) => void throttle.tryAcquire(1))));
    expect(named(full, 'circle')).toEqual([]);
    expect(texts(full)).not.toContain('none left');
  });

  test.each([
    ['without a rate limit', [Infinity, 2]],
    ['of a throttle that does not tell them', undefined],
  ] as const)('have no panel %s', async (_, made) => {
    const trace =
      made === undefined
        ? traceOf([{ kind: 'granted', at: 0, id: 1, cost: 1, waited: 0 }])
        : await played([...made], async (throttle) => void throttle.tryAcquire(5));
    const svg = parse(toSVG(trace));
    expect(classed(svg, 'level')).toEqual([]);
    expect(texts(svg).filter((text) => text.startsWith('tokens'))).toEqual([]);
    expect(texts(svg)).toContain('running at once, at most 2');
  });
});

describe('the rest', () => {
  test('pauses are bands: the latest deadline counts, `resume` ends one, one without an end reaches the edge', () => {
    const pause = (at: number, seconds: number | null): TraceEvent => ({ kind: 'paused', at, seconds });
    const svg = parse(
      toSVG(
        traceOf([
          pause(0, 0),
          pause(1, 2),
          pause(2, 0.5),
          pause(4, null),
          pause(5, 0),
          pause(6, 1),
          pause(6.5, 1),
          pause(8, null),
        ]),
        { until: 9 },
      ),
    );
    const x = (seconds: number): number => LEFT + (seconds / 9) * (RIGHT - LEFT);
    const bands = classed(svg, 'pause').filter((rect) => number(rect, 'height') > 50);
    expect(bands.map((rect) => [number(rect, 'x'), number(rect, 'x') + number(rect, 'width')])).toEqual(
      [
        [1, 3],
        [4, 5],
        [6, 7.5],
        [8, 9],
      ].map(([from = 0, to = 0]) => [expect.closeTo(x(from), 0), expect.closeTo(x(to), 0)]),
    );
    expect(texts(svg)).toEqual(expect.arrayContaining(['paused 2 s', 'paused']));
    expect(named(svg, 'desc')[0]?.text).toContain(
      'Paused from 1 s to 3 s. Paused from 4 s to 5 s. Paused from 6 s to 7.5 s. Paused from 8 s on.',
    );
  });

  test('of many short pauses, as many are named as have room', () => {
    const events = Array.from({ length: 40 }, (_, n): TraceEvent => ({ kind: 'paused', at: n, seconds: 0.5 }));
    const names = all(parse(toSVG(traceOf(events)))).filter(({ text }) => text === 'paused 0.5 s');
    expect(names.length).toBeGreaterThan(2);
    const places = names.map((text) => number(text, 'x'));
    for (const [index, x] of places.entries()) expect(x).toBeGreaterThan((places[index - 1] ?? -1000) + 100);
  });

  test('pauses that end on one pixel are one band, which tells how many they are; others keep theirs, also side by side', () => {
    const pauses = [
      [0, 2],
      [2, 2],
      [5, 0.001],
      [5.002, 0.001],
      [5.004, 0.001],
      [7, 0.001],
    ] as const;
    const svg = parse(
      toSVG(traceOf(pauses.map(([at, seconds]): TraceEvent => ({ kind: 'paused', at, seconds }))), { until: 8 }),
    );
    const x = (seconds: number): number => LEFT + (seconds / 8) * (RIGHT - LEFT);
    const bands = classed(svg, 'pause').filter((rect) => number(rect, 'height') > 50);
    expect(bands.map((rect) => [number(rect, 'x'), number(rect, 'width')])).toEqual([
      [x(0), x(2) - x(0)],
      [x(2), x(4) - x(2)],
      [x(5), 1],
      [x(7), 1],
    ]);
    expect(texts(svg).filter((text) => text.includes('pause'))).toEqual([
      'paused',
      'paused 2 s',
      'paused 2 s',
      '3 pauses',
      'paused 0.001 s',
    ]);
    expect(named(svg, 'desc')[0]?.text).not.toContain('in all');
  });

  test('of changes of the limits on one pixel, the last is drawn', () => {
    const change = (at: number, burst: number): TraceEvent => ({
      kind: 'paused',
      at,
      seconds: 0,
      tokens: 1,
      limits: { ...limits, burst },
    });
    const svg = parse(toSVG(traceOf([change(0, 4), change(2, 16), change(2.001, 8), change(6, 16)]), { until: 8 }));
    const x = (seconds: number): number => Math.round((LEFT + (seconds / 8) * (RIGHT - LEFT)) * 10) / 10;
    const steps = [
      ...(classed(svg, 'bound').at(-1)?.attributes['d'] ?? '').matchAll(/M([\d.]+) ([\d.]+)H([\d.]+)/g),
    ].map(([, from, y, to]) => [Number(from), Number(to), Number(y)] as const);
    expect(steps.map(([from, to]) => [from, to])).toEqual([
      [LEFT, x(2.001)],
      [x(2.001), x(6)],
      [x(6), RIGHT],
    ]);
    const [four = 0, eight = 0, sixteen = 0] = steps.map(([, , y]) => y);
    expect((four - sixteen) / (eight - sixteen)).toBeCloseTo(12 / 8, 1);
    const changes = named(svg, 'path').filter(({ attributes }) => attributes['stroke-dasharray'] === '6 4');
    expect(
      changes.flatMap(({ attributes }) =>
        [...(attributes['d'] ?? '').matchAll(/M([\d.]+)/g)].map(([, at]) => Number(at)),
      ),
    ).toEqual([LEFT, x(2.001), x(6)]);
    expect(texts(svg)).toContain('tokens');
  });

  test('100,000 pauses and 20,000 changes of the limits make a picture of a bounded size', () => {
    const events = Array.from({ length: 100_000 }, (_, n): TraceEvent => ({
      kind: 'paused',
      at: n,
      seconds: 0.5,
      tokens: n % 4,
      ...(n % 5 === 0 ? { limits: { ...limits, concurrency: 2 + (n % 3), burst: 4 + (n % 7) } } : {}),
    }));
    const text = toSVG(traceOf(events));
    expect(text.length).toBeLessThan(200_000);
    const svg = parse(text);
    expect(all(svg).length).toBeLessThan(2 * WIDTH);
    const about = named(svg, 'desc')[0]?.text ?? '';
    expect(about.match(/Paused from/g)?.length).toBe(10);
    expect(about).toMatch(/Paused from 9 s to 9\.5 s\. 100000 pauses in all\.$/);
    expect(texts(svg)).toContain('in the end 4 tokens per second, 4 at a time');
  });

  test('tokens that are no finite number are not known', () => {
    const call = (id: number, tokens?: number): TraceEvent => ({
      kind: 'granted',
      at: id,
      id,
      cost: 1,
      waited: 0,
      ...(tokens === undefined ? {} : { tokens }),
    });
    const known = toSVG(traceOf([call(1, 3), call(2), call(3, 1)]));
    for (const none of [NaN, Infinity, -Infinity]) {
      expect(toSVG(traceOf([call(1, 3), call(2, none), call(3, 1)]))).toBe(known);
      expect(toSVG(traceOf([call(1, none)]))).toBe(toSVG(traceOf([call(1)])));
    }
  });

  test.each([
    [NaN, RangeError],
    [Infinity, RangeError],
    [-Infinity, RangeError],
    [1.7e308, RangeError],
    [null, TypeError],
    ['5', TypeError],
    [undefined, TypeError],
  ])('an instant that is %o is refused by its place in the trace', (at, Kind) => {
    const events = [0, 1, 2, at].map((instant) => ({ kind: 'paused', at: instant, seconds: 1 })) as TraceEvent[];
    const draw = (): string => toSVG(traceOf(events));
    expect(draw).toThrow(Kind);
    expect(draw).toThrow(/^trace\.events\[3\]\.at must be a finite number, received /);
  });

  test('a change of the limits is told, and its bounds are drawn as they were', async () => {
    const trace = await played([4, 2], async (throttle, clock) => {
      throttle.tryAcquire();
      await clock.advance(1);
      throttle.configure({ capacity: 8, concurrency: 1 });
      throttle.tryAcquire();
      await clock.advance(1);
    });
    expect(texts(parse(toSVG(trace)))).toEqual(
      expect.arrayContaining([
        '4 tokens per second, 2 at a time',
        'then 8 tokens per second, 1 at a time',
        'running at once',
        'tokens',
      ]),
    );
    const twice = {
      ...trace,
      events: [
        ...trace.events,
        { kind: 'paused', at: 1003, seconds: 1, limits: { ...limits, capacity: 0.5, period: 60, burst: 1 } } as const,
      ],
    };
    expect(texts(parse(toSVG(twice)))).toContain('in the end 0.5 tokens per 60 s, 2 at a time');
  });

  test.each([
    [{ capacity: 4, concurrency: null, period: 1, burst: 9 }, '4 tokens per second, burst 9, any number at a time'],
    [{ capacity: 1, concurrency: 1, period: 0.5, burst: 1 }, '1 token per 0.5 s, 1 at a time'],
    [{ capacity: null, concurrency: 3, period: 1, burst: null }, 'any rate, 3 at a time'],
    [{ capacity: 1_000_000, concurrency: 3, period: 3600, burst: 1_000_000 }, '1000000 tokens per 3600 s, 3 at a time'],
  ])('the limits %o are: %s', (given, told) => {
    const svg = parse(toSVG({ limits: given, events: [], name: 'api' }));
    expect(texts(svg)).toEqual(expect.arrayContaining(['api', told, '0 calls']));
    expect(svg.attributes['role']).toBe('img');
    expect(svg.children.slice(0, 2).map(({ name }) => name)).toEqual(['title', 'desc']);
    expect(named(svg, 'title')[0]?.text).toBe(`api: ${told}`);
  });

  test.each<[TimelineOptions, string[]]>([
    [{ until: 10 }, ['0', '2', '4', '6', '8', 's']],
    [{ until: 0.002 }, ['0', '0.0005', '0.001', '0.0015', 's']],
    [{ since: 1000, until: 1002 }, ['1000', '1000.5', '1001', '1001.5', 's']],
    [{ until: 7200 }, ['0', '2000', '4000', '6000', 's']],
    [{}, ['0', '0.2', '0.4', '0.6', '0.8', 's']],
    [{ since: 1e18 }, ['1000000000000000000', '1000000000500000000', 's']],
    [{ since: 123_456, until: 123_456.0001 }, ['123456', '123456.00005', 's']],
    [{ since: 1e16, until: 1e16 + 2 }, ['10000000000000000', 's']],
  ])('the time axis of %o', (options, ticks) => {
    const svg = parse(toSVG(traceOf([]), options));
    const bottom = Math.max(...named(svg, 'text').map((text) => number(text, 'y')));
    expect(
      named(svg, 'text')
        .filter((text) => number(text, 'y') === bottom)
        .map(({ text }) => text),
    ).toEqual(ticks);
  });

  test('names are text, whatever they contain', () => {
    const name = '<script>alert("&\'")</script>]]>\0\ud800 --> \u{1f600}';
    const text = toSVG(traceOf([], { name }));
    const svg = parse(text);
    expect(text).not.toContain('<script');
    expect(named(svg, 'title')[0]?.text).toBe(
      `${name.replace('\0\ud800', '\ufffd\ufffd')}: 4 tokens per second, 2 at a time`,
    );
    expect(headline(parse(toSVG(traceOf([], { name: 'x'.repeat(1000) }))))).toMatch(/^x{20,60}…$/);
    expect(headline(parse(toSVG(traceOf([], { name: '限'.repeat(1000) }))))).toMatch(/^限{10,30}…$/);
    expect(headline(parse(toSVG(traceOf([], { name }), { title: 'another' })))).toBe('another');
  });

  test('text is large enough for a phone, and the colours are for light and dark pages', async () => {
    const text = toSVG(await backlog(30));
    for (const [, size] of text.matchAll(/font-size="([\d.]+)"/g))
      expect((Number(size) * 375) / WIDTH).toBeGreaterThanOrEqual(10);
    const style = named(parse(text), 'style')[0]?.text ?? '';
    const [light = '', dark = ''] = style.split('@media (prefers-color-scheme:dark)');
    const classes = new Set(
      [...text.matchAll(/class="([a-z]+)"/g)]
        .map(([, name = '']) => name)
        .filter((name) => name !== 'headgate' && name !== 'job'),
    );
    for (const name of classes) for (const theme of [light, dark]) expect(theme).toContain(`.headgate .${name}{`);
  });

  test.each<[unknown, unknown, string]>([
    [undefined, {}, 'trace must be a trace of record(), received undefined'],
    [{ limits: {} }, {}, 'trace must be a trace of record(), received object'],
    [traceOf([]), null, 'options must be an object, received null'],
    [traceOf([]), { title: 5 }, 'title must be a string, received 5'],
    [traceOf([]), { since: -1 }, 'since must be a finite number >= 0, received -1'],
    [traceOf([]), { until: Infinity }, 'until must be a finite number, received Infinity'],
    [traceOf([]), { since: 2, until: 2 }, 'until must be more than since, which is 2, received 2'],
    [traceOf([]), { width: 100 }, 'width must be an integer from 360 to 4096, received 100'],
  ])('refuses %o, %o', (trace, options, message) => {
    expect(() => toSVG(trace as Trace, options as TimelineOptions)).toThrow(message);
  });

  test('the picture of the README is the one that the demo writes', async () => {
    expect(readFileSync(new URL('../../bench/demo.svg', import.meta.url), 'utf8')).toBe(await drawDemoScenario());
  });
});

describe('any trace', () => {
  const instant = fc.oneof(
    fc.double({ min: 0, max: 100, noNaN: true }),
    fc.integer({ min: 0, max: 5 }),
    fc.constant(-3),
    fc.constant(1e9),
  );
  const amount = fc.oneof(fc.double({ min: 0, max: 50, noNaN: true }), fc.integer({ min: 0, max: 5 }));
  const bounds = fc.record({
    capacity: fc.option(fc.constantFrom(1, 0.01, 4, 1e6)),
    concurrency: fc.option(fc.integer({ min: 1, max: 9 })),
    period: fc.constantFrom(1, 60, 0.001),
    burst: fc.option(fc.constantFrom(1, 4, 1e6)),
  });
  const base = { at: instant, id: fc.nat(40), cost: amount };
  const maybe = { tokens: fc.oneof(amount, fc.constant(-2.5)), limits: bounds };
  const event: fc.Arbitrary<TraceEvent> = fc.oneof(
    fc.record(
      { kind: fc.constant('queued' as const), ...base, ...maybe },
      { requiredKeys: ['kind', 'at', 'id', 'cost'] },
    ),
    fc.record(
      { kind: fc.constant('granted' as const), ...base, ...maybe, waited: amount },
      { requiredKeys: ['kind', 'at', 'id', 'cost', 'waited'] },
    ),
    fc.record(
      { kind: fc.constant('released' as const), ...base, ...maybe },
      { requiredKeys: ['kind', 'at', 'id', 'cost'] },
    ),
    fc.record(
      {
        kind: fc.constant('refused' as const),
        ...base,
        ...maybe,
        reason: fc.constantFrom('timeout' as const, 'aborted' as const),
      },
      { requiredKeys: ['kind', 'at', 'id', 'cost', 'reason'] },
    ),
    fc.record(
      { kind: fc.constant('paused' as const), at: instant, ...maybe, seconds: fc.option(amount) },
      { requiredKeys: ['kind', 'at', 'seconds'] },
    ),
  );
  const traces: fc.Arbitrary<Trace> = fc.record(
    { name: fc.string({ unit: 'binary' }), limits: bounds, events: fc.array(event, { maxLength: 60, size: 'max' }) },
    { requiredKeys: ['limits', 'events'] },
  );
  const views: fc.Arbitrary<TimelineOptions> = fc.oneof(
    fc.constant({}),
    fc.record(
      { since: fc.double({ min: 0, max: 50, noNaN: true }), width: fc.integer({ min: 360, max: 2000 }) },
      { requiredKeys: [] },
    ),
    fc
      .tuple(fc.double({ min: 0, max: 50, noNaN: true }), fc.double({ min: 1e-6, max: 50, noNaN: true }))
      .map(([since, span]) => ({ since, until: since + span })),
  );

  test('is drawn within the axes, as well-formed XML, and the same every time', () => {
    fc.assert(
      fc.property(traces, views, (trace, view) => {
        const copy = structuredClone(trace);
        const text = toSVG(trace, view);
        expect(toSVG(JSON.parse(JSON.stringify(copy)) as Trace, view)).toBe(toSVG(copy, view));
        expect(trace).toEqual(copy);
        const svg = parse(text);
        expect(text.replaceAll(/<(title|text|desc)\b.*?<\/\1>/gs, '')).not.toMatch(/NaN|Infinity|undefined|null/);
        const [right, bottom] = [(view.width ?? WIDTH) - 16, number(svg, 'height')];
        for (const element of all(svg)) {
          for (const value of Object.values(element.attributes)) expect(value).not.toMatch(/NaN|Infinity|undefined/);
        }
        for (const rect of [...bars(svg), ...classed(svg, 'pause').filter((one) => number(one, 'height') > 50)]) {
          expect(number(rect, 'width')).toBeGreaterThan(0);
          expect(number(rect, 'x')).toBeGreaterThanOrEqual(LEFT - 0.1);
          expect(number(rect, 'x') + number(rect, 'width')).toBeLessThanOrEqual(right + 0.15);
          expect(number(rect, 'y')).toBeGreaterThan(0);
          expect(number(rect, 'y') + number(rect, 'height')).toBeLessThan(bottom);
        }
        for (const path of [...classed(svg, 'level'), ...classed(svg, 'area'), ...classed(svg, 'run')]) {
          const line = corners(path);
          for (const [x, y] of line) {
            expect(x).toBeGreaterThanOrEqual(LEFT - 0.1);
            expect(x).toBeLessThanOrEqual(right + 0.1);
            expect(y).toBeGreaterThan(0);
            expect(y).toBeLessThan(bottom);
          }
        }
        for (const line of classed(svg, 'level').map(corners))
          expect(line.map(([x]) => x)).toEqual(line.map(([x]) => x).toSorted((a, b) => a - b));
        if (view.since === undefined)
          expect(jobs(svg).length).toBe(new Set(trace.events.flatMap((one) => ('id' in one ? [one.id] : []))).size);
      }),
      { numRuns: 300 },
    );
  });
});
