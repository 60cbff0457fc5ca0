/** A job that waits for tokens starts when the fake timers of Jest reach its instant, whatever else they replace. */
import { throttledFetch } from 'headgate/fetch';
import { Throttle } from 'headgate';

type Options = Parameters<typeof jest.useFakeTimers>[0];
const table: [name: string, options: Options][] = [
  ['all', undefined],
  ['all but performance', { doNotFake: ['performance'] }],
  ['all but Date', { doNotFake: ['Date'] }],
  ['all but microtasks', { doNotFake: ['nextTick', 'queueMicrotask'] }],
  ['the legacy timers', { legacyFakeTimers: true }],
];

afterEach(() => jest.useRealTimers());

/** Lets the promise callbacks run, which no fake timer replaces. */
const settle = async (): Promise<void> => {
  for (let turn = 0; turn < 50; turn++) await Promise.resolve();
};

test.each(table)('jobs start minute by minute under fake timers: %s', async (_, options) => {
  jest.useFakeTimers(options);
  const throttle = new Throttle(1, 0, 60);
  const started: number[] = [];
  const jobs = [1, 2, 3].map((job) => throttle.run(() => void started.push(job)));
  await settle();
  expect(started).toEqual([1]);
  for (const expected of [
    [1, 2],
    [1, 2, 3],
  ]) {
    jest.advanceTimersByTime(59_000);
    await settle();
    expect(started).toHaveLength(expected.length - 1);
    // A timer rounds up to a whole millisecond.
    jest.advanceTimersByTime(1_001);
    await settle();
    expect(started).toEqual(expected);
  }
  await Promise.all(jobs);
  expect(jest.getTimerCount()).toBe(0);
});

test('a throttle that exists before the fake timers follows them too', async () => {
  const throttle = new Throttle(1, 0, 60);
  throttle.tryAcquire();
  jest.useFakeTimers();
  const job = throttle.run(() => 'done');
  await jest.advanceTimersByTimeAsync(60_001);
  await expect(job).resolves.toBe('done');
});

test('a pause and a retry of throttledFetch take fake time', async () => {
  jest.useFakeTimers();
  const responses = [new Response('', { status: 429, headers: { 'retry-after': '30' } }), new Response('done')];
  const send = throttledFetch(new Throttle(10), { fetch: async () => responses.shift() as Response });
  const response = send('https://api.example/');
  await jest.advanceTimersByTimeAsync(29_000);
  expect(responses).toHaveLength(1);
  await jest.advanceTimersByTimeAsync(10_000);
  await expect((await response).text()).resolves.toBe('done');
});
