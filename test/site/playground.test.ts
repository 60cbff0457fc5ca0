/** The playground without its page: addresses, code and simulations. test/site/browser.ts tests the page. */
import fc from 'fast-check';
import { Throttle } from 'headgate';
import { describe, expect, test } from 'vitest';
import { Simulation, simulate, summarize } from '../../bench/site/playground/simulation.js';
import {
  codeOf,
  constructorOf,
  formatState,
  INITIAL,
  MAX_TIME,
  MIN_TIME,
  parseState,
  RANGES,
  type State,
  WINDOWS,
  withPause,
  WORKLOADS,
} from '../../bench/site/playground/state.js';

/** Texts that an attacker, a typing error or an old link may put into an address. */
const hostile = fc.oneof(
  fc.string(),
  fc.double().map(String),
  fc.integer().map(String),
  fc.constantFrom('Infinity', '-Infinity', 'NaN', '1e309', '-0', '', ' ', '0x10', '<script>', '1,2', '__proto__'),
);
const query = fc
  .dictionary(
    fc.constantFrom('capacity', 'concurrency', 'period', 'burst', 'window', 'workload', 'time', 'pauses', 'other'),
    fc.oneof(hostile, fc.constantFrom(...WINDOWS, ...WORKLOADS)),
  )
  .map((values) => `?${new URLSearchParams(values).toString()}`);

/** The states that the controls can show, stated without the code of the playground. */
const state: fc.Arbitrary<State> = fc
  .record({
    capacity: fc.integer({ min: 0, max: 20 }),
    concurrency: fc.integer({ min: 0, max: 12 }),
    period: fc.integer({ min: 1, max: 20 }).map((halves) => halves / 2),
    burst: fc.integer({ min: 0, max: 40 }),
    window: fc.constantFrom(...WINDOWS),
    workload: fc.constantFrom(...WORKLOADS),
    time: fc.integer({ min: MIN_TIME, max: MAX_TIME }),
    pauses: fc.array(fc.integer({ min: 0, max: MIN_TIME * 4 }), { maxLength: 4 }),
  })
  .map((made): State =>
    Object.assign(made, {
      burst: made.window === 'sliding' ? 0 : made.burst,
      pauses: made.pauses.map((quarter) => quarter / 4).toSorted((a, b) => a - b),
    }),
  );

describe('an address', () => {
  test('with any values gives a state that the controls can show', () => {
    fc.assert(
      fc.property(fc.oneof(query, fc.string()), (text) => {
        const read = parseState(text);
        for (const { name, min, max, step } of RANGES) {
          expect(read[name]).toBeGreaterThanOrEqual(min);
          expect(read[name]).toBeLessThanOrEqual(max);
          expect((read[name] - min) / step).toBe(Math.round((read[name] - min) / step));
        }
        expect(WINDOWS).toContain(read.window);
        expect(WORKLOADS).toContain(read.workload);
        expect(read.time).toBeGreaterThanOrEqual(MIN_TIME);
        expect(read.time).toBeLessThanOrEqual(MAX_TIME);
        expect(read.pauses.length).toBeLessThanOrEqual(20);
        for (const instant of read.pauses) {
          expect(instant).toBeGreaterThanOrEqual(0);
          expect(instant).toBeLessThanOrEqual(read.time);
        }
        expect(read.pauses).toEqual(read.pauses.toSorted((a, b) => a - b));
      }),
    );
  });

  test('keeps every state', () => {
    fc.assert(
      fc.property(state, (made) => {
        expect(parseState(formatState(made))).toEqual(made);
      }),
    );
  });

  test('of the initial state has no query', () => {
    expect(formatState(INITIAL)).toBe('');
    expect(parseState('')).toEqual(INITIAL);
  });

  test.each([
    ['?capacity=1e9', { capacity: 20 }],
    ['?capacity=-3', { capacity: 0 }],
    ['?capacity=many', { capacity: INITIAL.capacity }],
    ['?capacity=2.4', { capacity: 2 }],
    ['?period=0', { period: 0.5 }],
    ['?time=1e300&pauses=1e300,x,-1', { time: MAX_TIME, pauses: [0, MAX_TIME] }],
    ['?window=sliding&burst=9', { window: 'sliding', burst: 0 }],
    ['?workload=__proto__', { workload: INITIAL.workload }],
    [`?pauses=${'1,'.repeat(100_000)}`, { pauses: Array.from({ length: 20 }, () => 1) }],
  ])('%.40s is clamped', (text, expected) => {
    expect(parseState(text)).toMatchObject(expected);
  });

  test('holds at most 20 pauses', () => {
    let paused = INITIAL;
    for (let count = 0; count < 30; count++) paused = withPause(paused, count / 3);
    expect(paused.pauses).toHaveLength(20);
    expect(parseState(formatState(paused))).toEqual(paused);
  });
});

describe('the code', () => {
  /** The throttle that the code constructs. */
  const constructed = (code: string): Throttle =>
    // oxlint-disable-next-line typescript/no-implied-eval -- the code is the playground's own
    new Function('Throttle', `return ${code}`)(Throttle) as Throttle;

  test('constructs a throttle with the limits of the simulated throttle', () => {
    fc.assert(
      fc.property(state, (made) => {
        const { capacity, concurrency, period, burst } = constructed(constructorOf(made));
        const { throttle } = new Simulation(made);
        expect([capacity, concurrency, period, burst]).toEqual([
          throttle.capacity,
          throttle.concurrency,
          throttle.period,
          throttle.burst,
        ]);
        expect([capacity, concurrency, period]).toEqual([made.capacity || Infinity, made.concurrency, made.period]);
        if (made.burst > 0 && made.capacity > 0) expect(burst).toBe(made.burst);
        expect(constructorOf(made).includes('sliding')).toBe(made.window === 'sliding');
      }),
    );
  });

  test.each<[Partial<State>, string]>([
    [{}, 'new Throttle(4, 3)'],
    [{ concurrency: 0 }, 'new Throttle(4)'],
    [{ period: 2 }, 'new Throttle(4, 3, 2)'],
    [{ capacity: 0 }, 'new Throttle(Infinity, 3)'],
    [{ burst: 8 }, 'new Throttle(4, 3, 1, { burst: 8 })'],
    [{ concurrency: 0, window: 'sliding' }, `new Throttle(4, 0, 1, { window: 'sliding' })`],
  ])('of %j is %s', (part, expected) => {
    expect(constructorOf({ ...INITIAL, ...part })).toBe(expected);
  });

  test('lists the pauses, and the cost of a heavy job', () => {
    expect(codeOf({ ...INITIAL, workload: 'heavy', pauses: [3, 7.5] })).toBe(
      [
        `import { Throttle } from 'headgate';`,
        '',
        'const gate = new Throttle(4, 3);',
        '',
        '// a job every 0.5 s; every third costs 4 and takes 1.2 s',
        'await gate.run(() => job());',
        'await gate.run(() => heavyJob(), 4);',
        '',
        'gate.pause(2); // at 3 s, 7.5 s',
      ].join('\n'),
    );
    expect(codeOf({ ...INITIAL, workload: 'heavy', capacity: 1 })).not.toContain('heavyJob');
  });
});

/** The events of a simulation. The throttles of a process share the numbers of their calls. */
const eventsOf = ({ trace }: Simulation): object[] => trace.events.map((event) => Object.assign({}, event, { id: 0 }));

describe('a simulation', () => {
  test('keeps the limits, ends at its time, and is the same each time', async () => {
    await fc.assert(
      fc.asyncProperty(state, async (made) => {
        const first = await simulate(made);
        expect(first.now).toBeCloseTo(made.time, 6);
        const grants = first.trace.events.filter((event) => event.kind === 'granted');
        expect(grants.length).toBeGreaterThan(0);
        expect(first.trace.events.some(({ kind }) => kind === 'refused')).toBe(false);
        for (const pause of made.pauses)
          for (const { at } of grants)
            expect(at > pause + 1e-9 && at < pause + 2 - 1e-9, `${at} after ${pause}`).toBe(false);
        const second = await simulate(made);
        expect(eventsOf(second)).toEqual(eventsOf(first));
        expect(summarize(second)).toBe(summarize(first));
      }),
      { numRuns: 20 },
    );
  });

  test('that advances in steps starts the same jobs as one that advances at once', async () => {
    const made: State = { ...INITIAL, time: 20, pauses: [5.1, 12.3] };
    const atOnce = await simulate(made);
    const inSteps = new Simulation(made);
    for (let step = 1; step <= 200; step++) {
      await inSteps.advance(0.1);
      if (step === 51 || step === 123) inSteps.pause();
    }
    const starts = ({ trace }: Simulation): string[] =>
      trace.events.filter(({ kind }) => kind === 'granted').map(({ at }) => at.toFixed(6));
    expect(starts(inSteps)).toEqual(starts(atOnce));
  });

  test('has a summary in words', async () => {
    const simulation = await simulate({ ...INITIAL, capacity: 1, concurrency: 1 });
    expect(summarize(simulation)).toBe(
      'After 12 s: 13 jobs started, 1 running, 35 waiting. The longest wait was 11 s.',
    );
    simulation.pause();
    expect(summarize(simulation)).toContain('The gate is paused for 2 s more.');
  });
});
