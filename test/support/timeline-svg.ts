/** Parses the pictures of `toSVG`, and records traces for them. */
import { Throttle, type ThrottleOptions } from 'headgate';
import { ManualClock, record, type Trace, type TracedLimits, type TraceEvent } from 'headgate/testing';
import { expect } from 'vitest';

export interface Element {
  name: string;
  attributes: Record<string, string>;
  children: Element[];
  text: string;
}

const decode = (text: string): string =>
  text.replaceAll(/&#(\d+);/g, (_, code: string) => String.fromCharCode(Number(code)));

/** Parses the subset of XML that the pictures use. Any other input fails the test. */
export function parseSvg(xml: string): Element {
  expect(xml).not.toMatch(
    // eslint-disable-next-line no-control-regex -- the characters that XML does not allow
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

export const descendants = (element: Element): Element[] => [element, ...element.children.flatMap(descendants)];
export const elementsNamed = (element: Element, name: string): Element[] =>
  descendants(element).filter((one) => one.name === name);
export const elementsWithClass = (element: Element, name: string): Element[] =>
  descendants(element).filter((one) => one.attributes['class'] === name);
export const textsOf = (element: Element): string[] => elementsNamed(element, 'text').map(({ text }) => text);
export const callsOf = (element: Element): Element[] => elementsWithClass(element, 'job');
export const numberOf = (element: Element, attribute: string): number => Number(element.attributes[attribute]);
/** The texts that end at their coordinate: the numbers in the margin, among others. */
export const rightAlignedTexts = (element: Element): string[] =>
  elementsNamed(element, 'text')
    .filter((text) => text.attributes['text-anchor'] === 'end')
    .map(({ text }) => text);
export const headlineOf = (element: Element): string | undefined =>
  elementsNamed(element, 'text').find((text) => text.attributes['font-weight'] === '600')?.text;
export const barsOf = (element: Element): Element[] => callsOf(element).flatMap((job) => elementsNamed(job, 'rect'));
/** The points of a path of absolute moves and lines. */
export const pointsOf = (path: Element | undefined): [x: number, y: number][] =>
  [...(path?.attributes['d'] ?? '').matchAll(/[ML](-?[\d.]+) (-?[\d.]+)/g)].map(([, x, y]) => [Number(x), Number(y)]);

export const WIDTH = 560;
export const LEFT = 60;
export const RIGHT: number = WIDTH - 16;

export const limits: TracedLimits = { capacity: 4, concurrency: 2, period: 1, burst: 4 };
export const createTrace = (events: readonly TraceEvent[], more: Partial<Trace> = {}): Trace => ({
  limits,
  events,
  ...more,
});

/** Runs a script with a throttle and returns the recorded trace. */
export async function recordScript(
  [capacity, concurrency, options = {}]: [capacity: number, concurrency: number, options?: ThrottleOptions],
  script: (throttle: Throttle, clock: ManualClock, sleep: (seconds: number) => Promise<void>) => Promise<void>,
): Promise<Trace> {
  const clock = new ManualClock(1000);
  const throttle = new Throttle(capacity, concurrency, 1, { clock, ...options });
  using trace = record(throttle);
  await script(throttle, clock, (seconds) => new Promise((resolve) => void clock.schedule(seconds, resolve)));
  return structuredClone(trace);
}

/** Records calls that all wait at once. */
export const recordBacklog = (count: number, seconds = 0.2): Promise<Trace> =>
  recordScript([20, 4], async (throttle, clock, sleep) => {
    for (let n = 0; n < count; n++) void throttle.run(() => sleep(seconds));
    await clock.runAll();
  });
