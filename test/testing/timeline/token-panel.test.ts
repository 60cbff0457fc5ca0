/** The token panel of the timeline. */
import { toSVG } from 'headgate/testing';
import { describe, expect, test } from 'vitest';
import {
  createTrace,
  elementsNamed,
  elementsWithClass,
  LEFT,
  limits,
  parseSvg,
  pointsOf,
  recordScript,
  RIGHT,
  rightAlignedTexts,
  textsOf,
} from '../../support/timeline-svg.js';

describe('the panels of named rates', () => {
  test('each rate has a panel with its own scale, and the slots in use are drawn', () => {
    const rate = { capacity: 100, period: 10, burst: 100 };
    const call = { id: 1, cost: 1, costs: { tokens: 60, free: 2 }, slots: 3 };
    const trace = {
      limits: { ...limits, capacity: 4, concurrency: 5, period: 1, burst: 4 },
      rates: { tokens: rate, free: { capacity: null, period: 1, burst: null } },
      events: [
        { kind: 'granted', at: 0, ...call, waited: 0, tokens: 3, levels: { tokens: 40 } },
        { kind: 'released', at: 2, ...call, tokens: 4, levels: { tokens: 60 } },
      ],
    } as const;
    const text = toSVG(trace, { until: 2 });
    const svg = parseSvg(text);
    const texts = textsOf(svg);
    expect(texts).toEqual(
      expect.arrayContaining(['slots in use, at most 5', 'main rate, at most 4', 'tokens, at most 100']),
    );
    expect(texts.some((one) => one.startsWith('free'))).toBe(false);
    expect(texts).toEqual(
      expect.arrayContaining(['4 per second, 5 at a time', 'tokens: 100 per 10 s; free: any rate']),
    );
    const levels = elementsWithClass(svg, 'level').map((line) => pointsOf(line).map(([, y]) => y));
    expect(levels).toHaveLength(2);
    // Both lines start at their own bound. The grant takes a quarter of the main rate, and 60 % of the tokens.
    const drops = levels.map(([full = 0, after = 0]) => (after - full) / 72);
    expect(drops[0]).toBeCloseTo(0.25, 1);
    expect(drops[1]).toBeCloseTo(0.6, 1);
    expect(text).toContain('call 1, cost 1, 60 of tokens, 2 of free, 3 slots');
  });

  test('a long name is shortened and escaped', () => {
    const name = `<${'x'.repeat(400)}`;
    const trace = {
      limits: { ...limits, capacity: 4, concurrency: 5, period: 1, burst: 4 },
      rates: { [name]: { capacity: 100, period: 10, burst: 100 } },
      events: [{ kind: 'paused', at: 0, seconds: 1, tokens: 4, levels: { [name]: 1 } }],
    } as const;
    const texts = textsOf(parseSvg(toSVG(trace, { until: 2 })));
    expect(texts.filter((one) => one.startsWith('<xxx') && one.endsWith('…'))).toHaveLength(2);
  });
});

describe('the token panel', () => {
  /** The points of the line in seconds and tokens, measured by the lines for the burst and for zero. */
  const tokenPoints = (text: string, most: number, seconds: number): [at: number, tokens: number][] => {
    const svg = parseSvg(text);
    const line = pointsOf(elementsWithClass(svg, 'level')[0]);
    const bound = elementsWithClass(svg, 'bound')
      .at(-1)
      ?.attributes['d']?.match(/M[\d.]+ ([\d.]+)/)?.[1];
    const zero = elementsWithClass(svg, 'axis')
      .findLast(({ attributes }) => attributes['d']?.includes('H'))
      ?.attributes['d']?.match(/M[\d.]+ ([\d.]+)/)?.[1];
    const [top, floor] = [Number(bound), Number(zero)];
    return line.map(([x, y]) => [((x - LEFT) / (RIGHT - LEFT)) * seconds, ((floor - y) / (floor - top)) * most]);
  };
  const roundPoints = (line: [number, number][]): [number, number][] =>
    line.map(([at, tokens]) => [Math.round(at * 10) / 10, Math.round(tokens * 10) / 10]);

  test('the line rises between events, up to the burst', async () => {
    const trace = await recordScript([4, 0], async (throttle, clock) => {
      throttle.tryAcquire(4);
      await clock.advance(0.5);
      throttle.tryAcquire(1);
      await clock.advance(2.5);
      throttle.tryAcquire(2);
    });
    const line = roundPoints(tokenPoints(toSVG(trace, { until: 4 }), 4, 4));
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

  test('a part of the time span shows the same levels as the whole', async () => {
    const trace = await recordScript([4, 0], async (throttle, clock) => {
      throttle.tryAcquire(4);
      await clock.advance(4);
      throttle.tryAcquire(1);
    });
    const line = pointsOf(elementsWithClass(parseSvg(toSVG(trace, { since: 0.5, until: 0.75 })), 'level')[0]);
    const whole = pointsOf(elementsWithClass(parseSvg(toSVG(trace, { until: 1 })), 'level')[0]);
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
  ])('the mark of a burst of %d is short', (burst, mark) => {
    const svg = parseSvg(
      toSVG({ limits: { ...limits, burst }, events: [{ kind: 'paused', at: 0, seconds: 1, tokens: burst }] }),
    );
    expect(rightAlignedTexts(svg).at(-2)).toBe(mark);
  });

  test('the line stays level when the next readings contradict an even refill', async () => {
    const trace = await recordScript([4, 2, { window: 'sliding' }], async (throttle, clock, sleep) => {
      for (let n = 0; n < 8; n++) void throttle.run(() => sleep(0.3));
      await clock.runAll();
    });
    const line = roundPoints(tokenPoints(toSVG(trace, { until: 3 }), 4, 3));
    for (const [index, [at, tokens]] of line.entries()) {
      const [before, level] = line[index - 1] ?? [at, tokens];
      if (at > before) expect(tokens).toBe(level);
    }
    expect(line).toContainEqual([1, 2]);
  });

  test('a debt is drawn below zero, and a level of zero has a dot', async () => {
    const trace = await recordScript([4, 0], async (throttle, clock) => {
      throttle.tryAcquire(1)?.settle(5);
      await clock.advance(0.25);
      throttle.tryAcquire(0)?.release();
      await clock.advance(2);
      throttle.tryAcquire(1);
    });
    const svg = parseSvg(toSVG(trace));
    expect(textsOf(svg)).toContain('none left');
    // The first reading comes from the grant, before the settlement.
    expect(elementsNamed(svg, 'circle').length).toBeGreaterThan(1);
    // In the trace above, the debt is repaid before the next reading. This trace has a reading below zero.
    const deep = parseSvg(
      toSVG(
        createTrace([
          { kind: 'granted', at: 0, id: 1, cost: 1, waited: 0, tokens: 3 },
          { kind: 'released', at: 1, id: 1, cost: 6, tokens: -2 },
        ]),
      ),
    );
    expect(rightAlignedTexts(deep).slice(-3)).toEqual(['4', '0', '-2']);
    const zero = Number(
      elementsWithClass(deep, 'axis')
        .at(-1)
        ?.attributes['d']?.match(/M[\d.]+ ([\d.]+)/)?.[1],
    );
    expect(Math.max(...pointsOf(elementsWithClass(deep, 'level')[0]).map(([, y]) => y))).toBeCloseTo(zero + 24, 0);
    // A rounding error below zero has no mark.
    expect(
      rightAlignedTexts(parseSvg(toSVG(createTrace([{ kind: 'paused', at: 0, seconds: 1, tokens: -1e-13 }])))).slice(
        -2,
      ),
    ).toEqual(['4', '0']);
    const full = parseSvg(toSVG(await recordScript([4, 0], async (throttle) => void throttle.tryAcquire(1))));
    expect(elementsNamed(full, 'circle')).toEqual([]);
    expect(textsOf(full)).not.toContain('none left');
  });

  test.each([
    ['without a rate limit', [Infinity, 2]],
    ['for a throttle that does not know its tokens', undefined],
  ] as const)('there is no panel %s', async (_, made) => {
    const trace =
      made === undefined
        ? createTrace([{ kind: 'granted', at: 0, id: 1, cost: 1, waited: 0 }])
        : await recordScript([...made], async (throttle) => void throttle.tryAcquire(5));
    const svg = parseSvg(toSVG(trace));
    expect(elementsWithClass(svg, 'level')).toEqual([]);
    expect(textsOf(svg).filter((text) => text.startsWith('tokens'))).toEqual([]);
    expect(textsOf(svg)).toContain('running at once, at most 2');
  });
});
