/** Pauses and changes of the limits in the timeline. */
import { toSVG, type TraceEvent } from 'headgate/testing';
import { describe, expect, test } from 'vitest';
import {
  createTrace,
  descendants,
  elementsNamed,
  elementsWithClass,
  LEFT,
  limits,
  numberOf,
  parseSvg,
  recordScript,
  RIGHT,
  textsOf,
  WIDTH,
} from '../../support/timeline-svg.js';

describe('pauses and limits', () => {
  test('a pause is a band up to its latest deadline, to resume, or to the edge', () => {
    const pause = (at: number, seconds: number | null): TraceEvent => ({ kind: 'paused', at, seconds });
    const svg = parseSvg(
      toSVG(
        createTrace([
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
    const bands = elementsWithClass(svg, 'pause').filter((rect) => numberOf(rect, 'height') > 50);
    expect(bands.map((rect) => [numberOf(rect, 'x'), numberOf(rect, 'x') + numberOf(rect, 'width')])).toEqual(
      [
        [1, 3],
        [4, 5],
        [6, 7.5],
        [8, 9],
      ].map(([from = 0, to = 0]) => [expect.closeTo(x(from), 0), expect.closeTo(x(to), 0)]),
    );
    expect(textsOf(svg)).toEqual(expect.arrayContaining(['paused 2 s', 'paused']));
    expect(elementsNamed(svg, 'desc')[0]?.text).toContain(
      'Paused from 1 s to 3 s. Paused from 4 s to 5 s. Paused from 6 s to 7.5 s. Paused from 8 s on.',
    );
  });

  test('short pauses are named as far as there is room', () => {
    const events = Array.from({ length: 40 }, (_, n): TraceEvent => ({ kind: 'paused', at: n, seconds: 0.5 }));
    const names = descendants(parseSvg(toSVG(createTrace(events)))).filter(({ text }) => text === 'paused 0.5 s');
    expect(names.length).toBeGreaterThan(2);
    const places = names.map((text) => numberOf(text, 'x'));
    for (const [index, x] of places.entries()) expect(x).toBeGreaterThan((places[index - 1] ?? -1000) + 100);
  });

  test('pauses that end on one pixel share a band with their number, and adjacent pauses have separate bands', () => {
    const pauses = [
      [0, 2],
      [2, 2],
      [5, 0.001],
      [5.002, 0.001],
      [5.004, 0.001],
      [7, 0.001],
    ] as const;
    const svg = parseSvg(
      toSVG(createTrace(pauses.map(([at, seconds]): TraceEvent => ({ kind: 'paused', at, seconds }))), { until: 8 }),
    );
    const x = (seconds: number): number => LEFT + (seconds / 8) * (RIGHT - LEFT);
    const bands = elementsWithClass(svg, 'pause').filter((rect) => numberOf(rect, 'height') > 50);
    expect(bands.map((rect) => [numberOf(rect, 'x'), numberOf(rect, 'width')])).toEqual([
      [x(0), x(2) - x(0)],
      [x(2), x(4) - x(2)],
      [x(5), 1],
      [x(7), 1],
    ]);
    expect(textsOf(svg).filter((text) => text.includes('pause'))).toEqual([
      'paused',
      'paused 2 s',
      'paused 2 s',
      '3 pauses',
      'paused 0.001 s',
    ]);
    expect(elementsNamed(svg, 'desc')[0]?.text).not.toContain('in all');
  });

  test('of several changes of the limits on one pixel, the last one is drawn', () => {
    const change = (at: number, burst: number): TraceEvent => ({
      kind: 'paused',
      at,
      seconds: 0,
      tokens: 1,
      limits: { ...limits, burst },
    });
    const svg = parseSvg(
      toSVG(createTrace([change(0, 4), change(2, 16), change(2.001, 8), change(6, 16)]), { until: 8 }),
    );
    const x = (seconds: number): number => Math.round((LEFT + (seconds / 8) * (RIGHT - LEFT)) * 10) / 10;
    const steps = [
      ...(elementsWithClass(svg, 'bound').at(-1)?.attributes['d'] ?? '').matchAll(/M([\d.]+) ([\d.]+)H([\d.]+)/g),
    ].map(([, from, y, to]) => [Number(from), Number(to), Number(y)] as const);
    expect(steps.map(([from, to]) => [from, to])).toEqual([
      [LEFT, x(2.001)],
      [x(2.001), x(6)],
      [x(6), RIGHT],
    ]);
    const [four = 0, eight = 0, sixteen = 0] = steps.map(([, , y]) => y);
    expect((four - sixteen) / (eight - sixteen)).toBeCloseTo(12 / 8, 1);
    const changes = elementsNamed(svg, 'path').filter(({ attributes }) => attributes['stroke-dasharray'] === '6 4');
    expect(
      changes.flatMap(({ attributes }) =>
        [...(attributes['d'] ?? '').matchAll(/M([\d.]+)/g)].map(([, at]) => Number(at)),
      ),
    ).toEqual([LEFT, x(2.001), x(6)]);
    expect(textsOf(svg)).toContain('tokens');
  });

  test('the picture of 100,000 pauses and 20,000 changes of the limits has a bounded size', () => {
    const events = Array.from({ length: 100_000 }, (_, n): TraceEvent => ({
      kind: 'paused',
      at: n,
      seconds: 0.5,
      tokens: n % 4,
      ...(n % 5 === 0 ? { limits: { ...limits, concurrency: 2 + (n % 3), burst: 4 + (n % 7) } } : {}),
    }));
    const text = toSVG(createTrace(events));
    expect(text.length).toBeLessThan(200_000);
    const svg = parseSvg(text);
    expect(descendants(svg).length).toBeLessThan(2 * WIDTH);
    const about = elementsNamed(svg, 'desc')[0]?.text ?? '';
    expect(about.match(/Paused from/g)?.length).toBe(10);
    expect(about).toMatch(/Paused from 9 s to 9\.5 s\. 100000 pauses in all\.$/);
    expect(textsOf(svg)).toContain('in the end 4 tokens per second, 4 at a time');
  });

  test('the summary states a change of the limits', async () => {
    const trace = await recordScript([4, 2], async (throttle, clock) => {
      throttle.tryAcquire();
      await clock.advance(1);
      throttle.configure({ capacity: 8, concurrency: 1 });
      throttle.tryAcquire();
      await clock.advance(1);
    });
    expect(textsOf(parseSvg(toSVG(trace)))).toEqual(
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
    expect(textsOf(parseSvg(toSVG(twice)))).toContain('in the end 0.5 tokens per 60 s, 2 at a time');
  });
});
