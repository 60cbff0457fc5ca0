/** The committed charts show the committed results, in letters and colours that a reader can read. */
import { readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { chart } from '../../bench/chart.js';
import { multiple, type Results } from '../../bench/report.js';
import { contrast } from './contrast.js';

const read = (name: string): string => readFileSync(new URL(`../../bench/${name}`, import.meta.url), 'utf8');
const CHARTS = ['chart.svg', 'upstream.svg'] as const;

/** The width in CSS pixels at which a chart has to be legible, and the least size of its letters at that width. */
const NARROW = 400;
const LEAST_SIZE = 9;
/** The least contrast of text in WCAG 2.2, level AA. */
const LEAST_CONTRAST = 4.5;

/** The declarations of a style sheet: the colour of each class. */
const coloursOf = (rules: string): Map<string, string> =>
  new Map(
    [...rules.matchAll(/\.([\w-]+)\{(?:fill|stroke):(#\w+)\}/g)].map(([, name = '', colour = '']) => [name, colour]),
  );

test('chart.svg shows the results of results.json', () => {
  expect(chart(JSON.parse(read('results.json')) as Results)).toBe(read('chart.svg'));
});

test('each number of chart.svg is the ratio that its bar shows', () => {
  const { scenarios } = JSON.parse(read('results.json')) as Results;
  const shown = [...read('chart.svg').matchAll(/>([\d.,]+×)<\/text>/g)].map(([, text]) => text);
  const ratios = Object.values(scenarios).flatMap((each) => Object.values(each.ratios).map(multiple));
  expect(shown.length).toBeGreaterThan(20);
  for (const number of shown) expect(ratios).toContain(number);
  expect(read('chart.svg')).not.toMatch(/\d (?:ns|µs|ms)</);
});

describe.each(CHARTS)('%s', (file) => {
  const svg = read(file);
  const [, light = '', dark = ''] = /<style>(.*?)@media \(prefers-color-scheme:dark\)\{(.*)\}<\/style>/.exec(svg) ?? [];

  test(`has letters of at least ${LEAST_SIZE} px at a width of ${NARROW} px`, () => {
    const width = Number(/viewBox="0 0 (\d+) /.exec(svg)?.[1]);
    const sizes = [...svg.matchAll(/ font-size="([\d.]+)"/g)].map(([, size]) => Number(size));
    expect(Math.min(...sizes) * Math.min(1, NARROW / width)).toBeGreaterThanOrEqual(LEAST_SIZE);
  });

  test.each([
    ['light', coloursOf(light)],
    ['dark', coloursOf(dark)],
  ])('has text with enough contrast on a %s page', (_, colours) => {
    const page = colours.get('page') ?? '';
    const used = new Set([...svg.matchAll(/<(?:text|tspan)[^>]* class="(\w+)"/g)].map(([, name = '']) => name));
    expect(used.size).toBeGreaterThan(2);
    for (const text of used)
      expect(contrast(colours.get(text) ?? '', page), text).toBeGreaterThanOrEqual(LEAST_CONTRAST);
  });

  test('takes every colour from a class with a colour for each theme', () => {
    for (const [drawn, classes] of svg.matchAll(/<(?:text|rect|line|path|tspan)[^>]*?(?: class="([\w-]+)")?[^>]*>/g)) {
      if (!/ (?:fill|stroke)="#/.test(drawn)) continue;
      const own = classes ?? / class="([\w-]+)"/.exec(drawn)?.[1] ?? '';
      expect(
        [coloursOf(light).has(own.replace('-line', '')), coloursOf(dark).has(own.replace('-line', ''))],
        drawn,
      ).toEqual([true, true]);
    }
  });
});
