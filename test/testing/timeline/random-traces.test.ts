/** Properties of the pictures of random traces. */
import fc from 'fast-check';
import { type TimelineOptions, toSVG, type Trace, type TraceEvent } from 'headgate/testing';
import { describe, expect, test } from 'vitest';
import {
  barsOf,
  callsOf,
  descendants,
  elementsWithClass,
  LEFT,
  numberOf,
  parseSvg,
  pointsOf,
  WIDTH,
} from '../../support/timeline-svg.js';

describe('random traces', () => {
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
  const level = fc.oneof(amount, fc.constant(-2.5));
  const name = fc.constantFrom('tokens', '<a&b>', 'toString', '__proto__');
  const maybe = {
    tokens: level,
    limits: bounds,
    levels: fc.dictionary(name, level),
    costs: fc.dictionary(name, amount),
  };
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
    {
      name: fc.string({ unit: 'binary' }),
      limits: bounds,
      rates: fc.dictionary(
        name,
        bounds.map(({ capacity, period, burst }) => ({ capacity, period, burst })),
      ),
      events: fc.array(event, { maxLength: 60, size: 'max' }),
    },
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

  test('the picture stays within the axes, is well-formed XML, and is the same every time', () => {
    fc.assert(
      fc.property(traces, views, (trace, view) => {
        const copy = structuredClone(trace);
        const text = toSVG(trace, view);
        expect(toSVG(JSON.parse(JSON.stringify(copy)) as Trace, view)).toBe(toSVG(copy, view));
        expect(trace).toEqual(copy);
        const svg = parseSvg(text);
        expect(text.replaceAll(/<(title|text|desc)\b.*?<\/\1>/gs, '')).not.toMatch(/NaN|Infinity|undefined|null/);
        const [right, bottom] = [(view.width ?? WIDTH) - 16, numberOf(svg, 'height')];
        for (const element of descendants(svg)) {
          for (const value of Object.values(element.attributes)) expect(value).not.toMatch(/NaN|Infinity|undefined/);
        }
        for (const rect of [
          ...barsOf(svg),
          ...elementsWithClass(svg, 'pause').filter((one) => numberOf(one, 'height') > 50),
        ]) {
          expect(numberOf(rect, 'width')).toBeGreaterThan(0);
          expect(numberOf(rect, 'x')).toBeGreaterThanOrEqual(LEFT - 0.1);
          expect(numberOf(rect, 'x') + numberOf(rect, 'width')).toBeLessThanOrEqual(right + 0.15);
          expect(numberOf(rect, 'y')).toBeGreaterThan(0);
          expect(numberOf(rect, 'y') + numberOf(rect, 'height')).toBeLessThan(bottom);
        }
        for (const path of [
          ...elementsWithClass(svg, 'level'),
          ...elementsWithClass(svg, 'area'),
          ...elementsWithClass(svg, 'run'),
        ]) {
          const line = pointsOf(path);
          for (const [x, y] of line) {
            expect(x).toBeGreaterThanOrEqual(LEFT - 0.1);
            expect(x).toBeLessThanOrEqual(right + 0.1);
            expect(y).toBeGreaterThan(0);
            expect(y).toBeLessThan(bottom);
          }
        }
        for (const line of elementsWithClass(svg, 'level').map(pointsOf))
          expect(line.map(([x]) => x)).toEqual(line.map(([x]) => x).toSorted((a, b) => a - b));
        if (view.since === undefined)
          expect(callsOf(svg).length).toBe(new Set(trace.events.flatMap((one) => ('id' in one ? [one.id] : []))).size);
      }),
      { numRuns: 300 },
    );
  });
});
