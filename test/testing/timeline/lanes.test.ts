/** The lanes of the timeline: one bar for the wait and one for the run of each call. */
import { toSVG, type TraceEvent } from 'headgate/testing';
import { describe, expect, test } from 'vitest';
import {
  barsOf,
  callsOf,
  createTrace,
  type Element,
  elementsNamed,
  elementsWithClass,
  LEFT,
  numberOf,
  parseSvg,
  recordBacklog,
  recordScript,
  RIGHT,
  rightAlignedTexts,
  textsOf,
} from '../../support/timeline-svg.js';

describe('lanes', () => {
  test('each call has a lane, with bars at the instants at which it waited and ran', () => {
    const svg = parseSvg(
      toSVG(
        createTrace([
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
    const [first, second] = callsOf(svg) as [Element, Element];
    expect(callsOf(svg).length).toBe(2);
    const seen = (job: Element): unknown =>
      elementsNamed(job, 'rect').map((rect) => [
        rect.attributes['class'],
        numberOf(rect, 'x'),
        numberOf(rect, 'width'),
      ]);
    expect(seen(first)).toEqual([['run', LEFT, x(4) - LEFT]]);
    expect(seen(second)).toEqual([
      ['wait', x(2), x(4) - x(2)],
      ['run', x(4), x(6) - x(4)],
    ]);
    expect(textsOf(second)).toEqual(['cost 2']);
    expect(elementsNamed(second, 'title').map(({ text }) => text)).toEqual(['call 2, cost 2, waited 2 s, ran 2 s']);
    const [waits, runs] = elementsNamed(second, 'rect') as [Element, Element];
    expect(numberOf(waits, 'y') + numberOf(waits, 'height') / 2).toBe(
      numberOf(runs, 'y') + numberOf(runs, 'height') / 2,
    );
    expect(numberOf(runs, 'y')).toBeGreaterThan(numberOf(elementsNamed(first, 'rect')[0] as Element, 'y') + 14);
    expect(textsOf(svg)).toEqual(expect.arrayContaining(['1', '2', '2 calls', '4 tokens per second, 2 at a time']));
  });

  test('a refused call has a hollow bar, a cross and the reason', () => {
    const svg = parseSvg(
      toSVG(
        createTrace([
          { kind: 'granted', at: 0, id: 1, cost: 1, waited: 0 },
          { kind: 'queued', at: 0, id: 2, cost: 1 },
          { kind: 'refused', at: 1, id: 2, cost: 1, reason: 'timeout' },
          { kind: 'refused', at: 1.5, id: 3, cost: 1, reason: 'queue full' },
          { kind: 'released', at: 2, id: 1, cost: 1 },
          { kind: 'refused', at: 2, id: 4, cost: 1, reason: 'busy' },
        ]),
      ),
    );
    const [, late, refusedAtOnce, last] = callsOf(svg) as [Element, Element, Element, Element];
    expect(elementsNamed(late, 'rect')).toEqual([]);
    expect(elementsWithClass(late, 'no').length).toBe(2);
    expect(textsOf(late)).toEqual(['timeout']);
    // A call that never waited has only the cross.
    expect(elementsWithClass(refusedAtOnce, 'no').length).toBe(1);
    expect(textsOf(refusedAtOnce)).toEqual(['queue full']);
    // At the end of the axis, the reason is left of the cross.
    expect(elementsNamed(last, 'text')[0]?.attributes['text-anchor']).toBe('end');
    expect(textsOf(svg)).toContain('4 calls, 3 refused (1 timeout, 1 queue full, 1 busy)');
    expect(textsOf(svg)).toContain('refused');
  });

  test('an open call reaches the right edge, and a call that ended with the last event does not', async () => {
    const trace = await recordScript([10, 2], async (throttle, clock) => {
      void throttle.acquire();
      const second = throttle.tryAcquire();
      void throttle.acquire().catch(() => {});
      await clock.advance(1);
      throttle.configure({ concurrency: 1 });
      second?.release();
    });
    const svg = parseSvg(toSVG(trace));
    const ends = barsOf(svg).map((rect) => numberOf(rect, 'x') + numberOf(rect, 'width'));
    expect(ends[0]).toBe(RIGHT);
    expect(ends[1]).toBeLessThan(RIGHT - 10);
    expect(ends[2]).toBe(RIGHT);
    expect(textsOf(svg)).toContain('3 calls, 1 still running, 1 still waiting');
  });

  test('a call or pause that is too short to see has a minimum width within the axis', () => {
    const call = (at: number, id: number): TraceEvent[] => [
      { kind: 'granted', at, id, cost: 1, waited: 0 },
      { kind: 'released', at, id, cost: 1 },
    ];
    const svg = parseSvg(
      toSVG(
        createTrace([
          ...call(0, 1),
          { kind: 'refused', at: 0, id: 2, cost: 1, reason: 'busy' },
          { kind: 'paused', at: 9.999, seconds: 0.001 },
          ...call(10, 3),
          { kind: 'refused', at: 10, id: 4, cost: 1, reason: 'busy' },
        ]),
        { until: 10 },
      ),
    );
    expect(barsOf(svg).map((rect) => [numberOf(rect, 'x'), numberOf(rect, 'width')])).toEqual([
      [LEFT, 2],
      [RIGHT - 2, 2],
    ]);
    const crosses = callsOf(svg)
      .flatMap((job) => elementsWithClass(job, 'no'))
      .map(({ attributes }) => attributes['d']);
    expect(crosses).toEqual([expect.stringMatching(`^M${LEFT} `), expect.stringMatching(`^M${RIGHT - 10} `)]);
    const band = elementsWithClass(svg, 'pause').find((rect) => numberOf(rect, 'height') > 50) as Element;
    expect([numberOf(band, 'x'), numberOf(band, 'width')]).toEqual([RIGHT - 1, 1]);
  });

  test('a call from before the recording starts at the left edge', () => {
    const svg = parseSvg(
      toSVG(
        createTrace([
          { kind: 'released', at: 5, id: 1, cost: 1 },
          { kind: 'granted', at: 6, id: 2, cost: 1, waited: 100 },
          { kind: 'released', at: 7, id: 2, cost: 1 },
        ]),
      ),
    );
    expect(barsOf(svg).map((rect) => [rect.attributes['class'], numberOf(rect, 'x')])).toEqual([
      ['run', LEFT],
      ['wait', LEFT],
      ['run', expect.any(Number)],
    ]);
  });

  test('more than 24 calls share lanes if 24 are enough, and no two calls overlap', async () => {
    const trace = await recordScript([50, 4], async (throttle, clock, sleep) => {
      for (let n = 0; n < 150; n++) {
        void throttle.run(() => sleep(0.05 + (n % 7) / 20));
        await clock.advance((n % 5) / 40);
      }
      await clock.runAll();
    });
    const svg = parseSvg(toSVG(trace));
    expect(textsOf(svg)).toContain('150 calls; lanes are shared');
    expect(callsOf(svg).length).toBe(150);
    const lanes = new Map<number, [from: number, to: number][]>();
    for (const job of callsOf(svg)) {
      const rects = elementsNamed(job, 'rect');
      const middle = numberOf(rects[0] as Element, 'y') + numberOf(rects[0] as Element, 'height') / 2;
      const edges = rects.flatMap((rect) => [numberOf(rect, 'x'), numberOf(rect, 'x') + numberOf(rect, 'width')]);
      lanes.set(middle, [...(lanes.get(middle) ?? []), [Math.min(...edges), Math.max(...edges)]]);
    }
    expect(lanes.size).toBeLessThanOrEqual(24);
    for (const lane of lanes.values())
      lane
        .toSorted(([a], [b]) => a - b)
        .forEach(([from], index, sorted) => expect(from).toBeGreaterThanOrEqual((sorted[index - 1]?.[1] ?? 0) - 0.1));
    // Shared lanes have no numbers. The numbers of the panels and the unit of time remain.
    expect(rightAlignedTexts(svg)).toEqual(['s', '4', '0', '50', '0']);
  });

  test.each([
    [20, 20, ''],
    [24, 24, ''],
    [25, 25, ''],
    [200, 200, ''],
    [201, 100, '; 1 in 2 is drawn'],
    [2000, 200, '; 1 in 10 is drawn'],
  ])(
    'of %i calls that wait at once, %i have a lane%s, and the height of the picture is bounded',
    async (count, drawn, note) => {
      const text = toSVG(await recordBacklog(count));
      const svg = parseSvg(text);
      expect(callsOf(svg).length).toBe(drawn);
      expect(textsOf(svg)).toContain(`${count} calls${note}`);
      const tops = new Set(callsOf(svg).map((job) => numberOf(elementsWithClass(job, 'run')[0] as Element, 'y')));
      expect(tops.size).toBe(drawn);
      expect(numberOf(svg, 'height')).toBeLessThan(850);
      expect(text.length).toBeLessThan(120_000);
    },
  );

  test('lanes are numbered as far as there is room', async () => {
    expect(rightAlignedTexts(parseSvg(toSVG(await recordBacklog(5))))).toEqual([
      's',
      '1',
      '2',
      '3',
      '4',
      '5',
      '4',
      '0',
      '20',
      '0',
    ]);
    expect(rightAlignedTexts(parseSvg(toSVG(await recordBacklog(200))))).toEqual([
      's',
      '50',
      '100',
      '150',
      '200',
      '4',
      '0',
      '20',
      '0',
    ]);
    expect(rightAlignedTexts(parseSvg(toSVG(await recordBacklog(2000))))).toEqual([
      's',
      '500',
      '1000',
      '1500',
      '2000',
      '4',
      '0',
      '20',
      '0',
    ]);
    // Every 7th call is drawn. The first one after each multiple of 200 has a number.
    expect(rightAlignedTexts(parseSvg(toSVG(await recordBacklog(1300))))).toEqual([
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
