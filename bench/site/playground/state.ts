/**
 * The state of the playground as plain data: its limits, its address and the code that it stands for. An address can
 * come from anywhere, so every value is clamped to the range of its control.
 */

/** A setting with a slider. */
export interface Range {
  readonly name: 'capacity' | 'concurrency' | 'period' | 'burst';
  readonly min: number;
  readonly max: number;
  readonly step: number;
  readonly initial: number;
  /** The value in words, for the page and for screen readers. */
  describe(value: number): string;
}

const count = (value: number, noun: string): string => `${value} ${noun}${value === 1 ? '' : 's'}`;

/** The sliders in their order on the page. A 0 stands for the default or for no limit, as `describe` states. */
export const RANGES: readonly Range[] = [
  {
    name: 'capacity',
    min: 0,
    max: 20,
    step: 1,
    initial: 4,
    describe: (value) => (value === 0 ? 'no rate limit' : `${count(value, 'token')} per period`),
  },
  {
    name: 'concurrency',
    min: 0,
    max: 12,
    step: 1,
    initial: 3,
    describe: (value) => (value === 0 ? 'no limit' : `${count(value, 'job')} at a time`),
  },
  { name: 'period', min: 0.5, max: 10, step: 0.5, initial: 1, describe: (value) => count(value, 'second') },
  {
    name: 'burst',
    min: 0,
    max: 40,
    step: 1,
    initial: 0,
    describe: (value) => (value === 0 ? 'as the capacity' : count(value, 'token')),
  },
];

export const WINDOWS = ['bucket', 'sliding'] as const;
export const WORKLOADS = ['steady', 'bursts', 'heavy'] as const;

export type WindowKind = (typeof WINDOWS)[number];
export type Workload = (typeof WORKLOADS)[number];

export interface State {
  readonly capacity: number;
  readonly concurrency: number;
  readonly period: number;
  readonly burst: number;
  readonly window: WindowKind;
  readonly workload: Workload;
  /** How long the gate has run, in seconds. */
  readonly time: number;
  /** The instants at which the gate was paused, in seconds, in their order. */
  readonly pauses: readonly number[];
}

/** How long each pause lasts, in seconds. */
export const PAUSE_SECONDS = 2;
/** The first and the last instant at which the time can stand. They bound the work of a simulation. */
export const MIN_TIME = 12;
export const MAX_TIME = 60;
const MAX_PAUSES = 20;

/** The state of an address without settings. */
export const INITIAL: State = {
  capacity: 4,
  concurrency: 3,
  period: 1,
  burst: 0,
  window: 'bucket',
  workload: 'bursts',
  time: MIN_TIME,
  pauses: [],
};

/** The number that `text` states, moved into the range and onto a step; `initial` if `text` states no number. */
function clamped(
  text: string | null,
  { min, max, step, initial }: Pick<Range, 'min' | 'max' | 'step' | 'initial'>,
): number {
  const value = text === null || text.trim() === '' ? NaN : Number(text);
  if (Number.isNaN(value)) return initial;
  const steps = Math.round((Math.max(min, value) - min) / step);
  // Steps are hundredths at least, so this rounding removes only errors of the arithmetic.
  return Math.min(max, Math.round((min + steps * step) * 100) / 100);
}

const oneOf = <T extends string>(known: readonly T[], text: string | null, initial: T): T =>
  known.find((each) => each === text) ?? initial;

const TIME = { min: MIN_TIME, max: MAX_TIME, step: 0.01, initial: MIN_TIME };

/** Reads the query of an address. Unknown names and values change nothing, and numbers out of range are clamped. */
export function parseState(query: string): State {
  const values = new URLSearchParams(query);
  const of = (name: Range['name']): number => {
    const range = RANGES.find((each) => each.name === name);
    return range === undefined ? NaN : clamped(values.get(name), range);
  };
  const window = oneOf(WINDOWS, values.get('window'), INITIAL.window);
  const time = clamped(values.get('time'), TIME);
  const pauses = (values.get('pauses') ?? '')
    .split(',', MAX_PAUSES)
    .map((text) => clamped(text, { min: 0, max: time, step: 0.01, initial: NaN }))
    .filter((instant) => !Number.isNaN(instant))
    .toSorted((a, b) => a - b);
  return {
    capacity: of('capacity'),
    concurrency: of('concurrency'),
    period: of('period'),
    // A sliding window has no burst.
    burst: window === 'sliding' ? 0 : of('burst'),
    window,
    workload: oneOf(WORKLOADS, values.get('workload'), INITIAL.workload),
    time,
    pauses,
  };
}

/** The query that {@link parseState} reads as `state`: empty for the initial state. */
export function formatState(state: State): string {
  const values = new URLSearchParams();
  for (const [name, value] of Object.entries(state) as [keyof State, State[keyof State]][]) {
    const text = String(value);
    if (text !== String(INITIAL[name])) values.set(name, text);
  }
  const query = values.toString().replaceAll('%2C', ',');
  return query === '' ? '' : `?${query}`;
}

/** The state after a pause at `instant`. More pauses than an address can hold are left out. */
export function withPause(state: State, instant: number): State {
  if (state.pauses.length >= MAX_PAUSES) return state;
  const rounded = Math.round(instant * 100) / 100;
  return { ...state, pauses: [...state.pauses, rounded].toSorted((a, b) => a - b) };
}

/** The largest cost that the gate of `state` can grant. */
export function largestCost({ capacity, burst }: Pick<State, 'capacity' | 'burst'>): number {
  return capacity === 0 ? Infinity : burst === 0 ? capacity : burst;
}

/** The expression that constructs the gate of `state`. */
export function constructorOf({ capacity, concurrency, period, burst, window }: State): string {
  const options = [
    ...(burst > 0 && capacity > 0 ? [`burst: ${burst}`] : []),
    ...(window === 'sliding' ? [`window: 'sliding'`] : []),
  ];
  const given = [
    capacity === 0 ? 'Infinity' : String(capacity),
    String(concurrency),
    String(period),
    ...(options.length === 0 ? [] : [`{ ${options.join(', ')} }`]),
  ];
  // The last arguments are left out where they equal the defaults.
  if (given.length === 3 && period === 1) given.pop();
  if (given.length === 2 && concurrency === 0) given.pop();
  return `new Throttle(${given.join(', ')})`;
}

/** What the jobs of a workload do, in words. */
export const WORKLOAD_TEXT: Readonly<Record<Workload, string>> = {
  steady: 'a job of 0.5 s every 0.25 s',
  bursts: '12 jobs of 0.4 s at once, every 4 s',
  heavy: 'a job every 0.5 s; every third costs 4 and takes 1.2 s',
};

/** The cost of a heavy job: 4, or the largest cost that the gate can grant. */
export const heavyCost = (state: Pick<State, 'capacity' | 'burst'>): number => Math.min(4, largestCost(state));

/** The program that the playground shows beside the picture. */
export function codeOf(state: State): string {
  const { workload, pauses } = state;
  const cost = heavyCost(state);
  return [
    `import { Throttle } from 'headgate';`,
    '',
    `const gate = ${constructorOf(state)};`,
    '',
    `// ${WORKLOAD_TEXT[workload]}`,
    'await gate.run(() => job());',
    ...(workload === 'heavy' && cost !== 1 ? [`await gate.run(() => heavyJob(), ${cost});`] : []),
    ...(pauses.length === 0
      ? []
      : ['', `gate.pause(${PAUSE_SECONDS}); // at ${pauses.map((instant) => `${instant} s`).join(', ')}`]),
  ].join('\n');
}
