/** The document around the panels: title, summary, time axis, text and colours; and the arguments of `toSVG`. */
import { readFileSync } from 'node:fs';
import { type TimelineOptions, toSVG, type Trace, type TraceEvent } from 'headgate/testing';
import { describe, expect, test } from 'vitest';
import { drawDemoScenario } from '../../../bench/demo-scenario.js';
import {
  createTrace,
  elementsNamed,
  headlineOf,
  numberOf,
  parseSvg,
  recordBacklog,
  textsOf,
  WIDTH,
} from '../../support/timeline-svg.js';

describe('the document', () => {
  test('a token value that is not finite counts as unknown', () => {
    const call = (id: number, tokens?: number): TraceEvent => ({
      kind: 'granted',
      at: id,
      id,
      cost: 1,
      waited: 0,
      ...(tokens === undefined ? {} : { tokens }),
    });
    const known = toSVG(createTrace([call(1, 3), call(2), call(3, 1)]));
    for (const none of [NaN, Infinity, -Infinity]) {
      expect(toSVG(createTrace([call(1, 3), call(2, none), call(3, 1)]))).toBe(known);
      expect(toSVG(createTrace([call(1, none)]))).toBe(toSVG(createTrace([call(1)])));
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
  ])('toSVG rejects an instant of %o and names its index in the trace', (at, Kind) => {
    const events = [0, 1, 2, at].map((instant) => ({ kind: 'paused', at: instant, seconds: 1 })) as TraceEvent[];
    const draw = (): string => toSVG(createTrace(events));
    expect(draw).toThrow(Kind);
    expect(draw).toThrow(/^trace\.events\[3\]\.at must be a finite number, received /);
  });

  test.each([
    [{ capacity: 4, concurrency: null, period: 1, burst: 9 }, '4 tokens per second, burst 9, any number at a time'],
    [{ capacity: 1, concurrency: 1, period: 0.5, burst: 1 }, '1 token per 0.5 s, 1 at a time'],
    [{ capacity: null, concurrency: 3, period: 1, burst: null }, 'any rate, 3 at a time'],
    [{ capacity: 1_000_000, concurrency: 3, period: 3600, burst: 1_000_000 }, '1000000 tokens per 3600 s, 3 at a time'],
  ])('the limits %o are described as: %s', (given, description) => {
    const svg = parseSvg(toSVG({ limits: given, events: [], name: 'api' }));
    expect(textsOf(svg)).toEqual(expect.arrayContaining(['api', description, '0 calls']));
    expect(svg.attributes['role']).toBe('img');
    expect(svg.children.slice(0, 2).map(({ name }) => name)).toEqual(['title', 'desc']);
    expect(elementsNamed(svg, 'title')[0]?.text).toBe(`api: ${description}`);
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
  ])('the time axis of %o has evenly spaced names', (options, ticks) => {
    const svg = parseSvg(toSVG(createTrace([]), options));
    const bottom = Math.max(...elementsNamed(svg, 'text').map((text) => numberOf(text, 'y')));
    expect(
      elementsNamed(svg, 'text')
        .filter((text) => numberOf(text, 'y') === bottom)
        .map(({ text }) => text),
    ).toEqual(ticks);
  });

  test('a name is escaped, shortened, and replaced by the title option', () => {
    const name = '<script>alert("&\'")</script>]]>\0\ud800 --> \u{1f600}';
    const text = toSVG(createTrace([], { name }));
    const svg = parseSvg(text);
    expect(text).not.toContain('<script');
    expect(elementsNamed(svg, 'title')[0]?.text).toBe(
      `${name.replace('\0\ud800', '\ufffd\ufffd')}: 4 tokens per second, 2 at a time`,
    );
    expect(headlineOf(parseSvg(toSVG(createTrace([], { name: 'x'.repeat(1000) }))))).toMatch(/^x{20,60}…$/);
    expect(headlineOf(parseSvg(toSVG(createTrace([], { name: '限'.repeat(1000) }))))).toMatch(/^限{10,30}…$/);
    expect(headlineOf(parseSvg(toSVG(createTrace([], { name }), { title: 'another' })))).toBe('another');
  });

  test('text is readable on a phone, and every colour has a light and a dark variant', async () => {
    const text = toSVG(await recordBacklog(30));
    for (const [, size] of text.matchAll(/font-size="([\d.]+)"/g))
      expect((Number(size) * 375) / WIDTH).toBeGreaterThanOrEqual(10);
    const style = elementsNamed(parseSvg(text), 'style')[0]?.text ?? '';
    const [light = '', dark = ''] = style.split('@media (prefers-color-scheme:dark)');
    const classes = new Set(
      [...text.matchAll(/class="([a-z]+)"/g)]
        .map(([, name = '']) => name)
        .filter((name) => name !== 'headgate' && name !== 'job'),
    );
    for (const name of classes) for (const theme of [light, dark]) expect(theme).toContain(`.headgate .${name}{`);
  });

  test.each<[unknown, unknown, string]>([
    [undefined, {}, 'trace must be a trace from record(), received undefined'],
    [{ limits: {} }, {}, 'trace must be a trace from record(), received object'],
    [createTrace([]), null, 'options must be an object, received null'],
    [createTrace([]), { title: 5 }, 'title must be a string, received 5'],
    [createTrace([]), { since: -1 }, 'since must be a finite number >= 0, received -1'],
    [createTrace([]), { until: Infinity }, 'until must be a finite number, received Infinity'],
    [createTrace([]), { since: 2, until: 2 }, 'until must be greater than since (2), received 2'],
    [createTrace([]), { width: 100 }, 'width must be an integer from 360 to 4096, received 100'],
  ])('toSVG rejects %o, %o', (trace, options, message) => {
    expect(() => toSVG(trace as Trace, options as TimelineOptions)).toThrow(message);
  });

  test('bench/demo.svg is the picture that the demo draws', async () => {
    expect(readFileSync(new URL('../../../bench/demo.svg', import.meta.url), 'utf8')).toBe(await drawDemoScenario());
  });
});
