/** The place of a call, from the stacks of different engines, packages and bundles. */
import { runInThisContext } from 'node:vm';
import { afterEach, describe, expect, test, vi } from 'vitest';
import { callerFrames, captureFrames } from '../../src/development/stack.js';

afterEach(() => vi.unstubAllGlobals());

const installed = 'file:///app/node_modules/headgate/dist';
const pnpm = '/app/node_modules/.pnpm/headgate@1.0.0/node_modules/headgate/dist';

describe('the frames outside of headgate', () => {
  test.each<{ of: string; stack: unknown; frames: string[] }>([
    {
      of: 'an installed package',
      stack: `Error
    at captureFrames (${installed}/development/index.js:10:5)
    at Throttle.acquire (${installed}/chunk-A1.js:20:5)
    at load (file:///app/jobs.js:3:9)
    at async main (file:///app/main.js:7:1)
    at async ${installed}/index.js:8:8
    at process.processTicksAndRejections (node:internal/process/task_queues:95:5)
    at Array.map (<anonymous>)`,
      frames: ['load (/app/jobs.js:3:9)', 'async main (/app/main.js:7:1)'],
    },
    {
      of: 'a package in the store of pnpm, with a message of several lines',
      stack: `Error: one\ntwo\n    at f (${pnpm}/development/index.js:1:1)\n    at /app/jobs.js:3:9`,
      frames: ['/app/jobs.js:3:9'],
    },
    {
      of: 'a linked package: the folder of the first frame',
      stack: `Error
    at captureFrames (/repos/headgate/dist/development/index.js:1:1)
    at Throttle.run (/repos/headgate/dist/chunk-A1.js:2:2)
    at start (/repos/headgate/distant/start.js:5:5)`,
      frames: ['start (/repos/headgate/distant/start.js:5:5)'],
    },
    {
      of: 'CommonJS, and the sources',
      stack: `Error
    at captureFrames (/repos/headgate/dist/cjs/development/index.js:1:1)
    at Throttle.run (/repos/headgate/dist/cjs/index.js:2:2)
    at Object.<anonymous> (/app/main.cjs:5:5)
    at Module._compile (node:internal/modules/cjs/loader:1364:14)`,
      frames: ['Object.<anonymous> (/app/main.cjs:5:5)'],
    },
    {
      of: 'Windows',
      stack: `Error
    at captureFrames (file:///C:/app/node_modules/headgate/dist/development/index.js:1:1)
    at Throttle.run (C:\\app\\node_modules\\headgate\\dist\\index.js:2:2)
    at load (file:///C:/app/jobs.js:3:9)
    at main (C:\\app\\main.js:4:4)`,
      frames: ['load (C:/app/jobs.js:3:9)', 'main (C:\\app\\main.js:4:4)'],
    },
    {
      of: 'a bundle: the names of headgate decide',
      stack: `Error
    at captureFrames (/app/out.js:1:1)
    at Aids.granted (/app/out.js:2:2)
    at EventPublisher.granted (/app/out.js:3:3)
    at _Throttle.acquire (/app/out.js:4:4)
    at /app/out.js:5:5
    at KeyedThrottle2.acquire (/app/out.js:6:6)
    at load (/app/out.js:7:7)
    at ThrottleOwner.start (/app/out.js:8:8)
    at Throttle.later (/app/other.js:9:9)`,
      frames: ['load (/app/out.js:7:7)', 'ThrottleOwner.start (/app/out.js:8:8)', 'Throttle.later (/app/other.js:9:9)'],
    },
    {
      of: 'a bundle of headgate beside other files',
      stack: `Error
    at captureFrames (${installed}/development/index.js:1:1)
    at Throttle.acquire (/app/vendor.js:4:4)
    at load (/app/jobs.js:7:7)`,
      frames: ['load (/app/jobs.js:7:7)'],
    },
    {
      of: 'a bundle in which all frames belong to headgate',
      stack: 'Error\n    at captureFrames (/app/out.js:1:1)\n    at readItems (/app/out.js:2:2)',
      frames: [],
    },
    {
      of: 'a minified bundle: the nearest frame that is known',
      stack: 'Error\n    at a (/app/out.js:1:1)\n    at b.acquire (/app/out.js:1:90)\n    at c (/app/out.js:1:120)',
      frames: ['a (/app/out.js:1:1)', 'b.acquire (/app/out.js:1:90)', 'c (/app/out.js:1:120)'],
    },
    {
      of: 'code without a file',
      stack: `Error
    at captureFrames (${installed}/development/index.js:1:1)
    at eval (eval at <anonymous> (/app/a.js:1:1), <anonymous>:1:5)
    at <anonymous>:2:7
    at evalmachine.<anonymous>:3:1`,
      frames: [
        'eval (eval at <anonymous> (/app/a.js:1:1), <anonymous>:1:5)',
        '<anonymous>:2:7',
        'evalmachine.<anonymous>:3:1',
      ],
    },
    {
      of: 'Firefox and Safari',
      stack: `captureFrames@https://app.example/node_modules/headgate/dist/development/index.js:1:1
load@https://app.example/jobs.js:3:9
@https://app.example/main.js:4:4
async*main@https://app.example/main.js:5:5
[native code]`,
      frames: [
        'load (https://app.example/jobs.js:3:9)',
        'https://app.example/main.js:4:4',
        'async*main (https://app.example/main.js:5:5)',
      ],
    },
    { of: 'no stack', stack: undefined, frames: [] },
    { of: 'a stack that a program has replaced', stack: [{}], frames: [] },
    { of: 'an empty stack', stack: 'Error', frames: [] },
  ])('of $of', ({ stack, frames }) => {
    expect(callerFrames(stack)).toEqual(frames);
  });

  test('are at most ten, and of at most 241 characters each', () => {
    const address = `data:text/javascript,${'x'.repeat(5_000)}`;
    const lines = Array.from({ length: 30 }, (_, line) => `    at f${line} (${address}:1:${line})`);
    const frames = callerFrames(`Error\n    at g (${installed}/development/index.js:1:1)\n${lines.join('\n')}`);
    expect(frames).toHaveLength(10);
    for (const frame of frames) expect(frame).toMatch(/^f\d \(data:text.{200,229}…?.*:1:\d\)$/);
    expect(Math.max(...frames.map(({ length }) => length))).toBe(241);
  });
});

describe('captureFrames', () => {
  const first = (): string => captureFrames()[0] ?? '';

  test('names the caller, also for a repeated call, and restores the settings of `Error`', () => {
    const { stackTraceLimit } = Error;
    const before = Object.getOwnPropertyDescriptor(Error, 'prepareStackTrace');
    Error.stackTraceLimit = 0;
    try {
      const places = [1, 2].map(first);
      expect(places[0]).toMatch(/^first \(.*test\/development\/stack\.test\.ts:\d+:\d+\)$/);
      expect(places[1]).toBe(places[0]);
      expect(Error.stackTraceLimit).toBe(0);
    } finally {
      Error.stackTraceLimit = stackTraceLimit;
    }
    expect(Object.getOwnPropertyDescriptor(Error, 'prepareStackTrace')).toEqual(before);
  });

  test('two places of one function are two places', () => {
    const places = [captureFrames(), captureFrames()].map(([place]) => place);
    expect(new Set(places).size).toBe(2);
  });

  test('forgets old places, and finds them again', () => {
    const make = (index: number): typeof captureFrames =>
      // Each function has a file of its own.
      runInThisContext('(capture) => () => capture()', { filename: `/app/file-${index}.js` })(captureFrames);
    const functions = Array.from({ length: 1_100 }, (_, index) => make(index));
    for (const [index, call] of functions.entries())
      expect(call().find((frame) => frame.includes('/app/'))).toContain(`/app/file-${index}.js:`);
    expect(functions[0]?.().find((frame) => frame.includes('/app/'))).toContain('/app/file-0.js:');
  });

  test('functions from `eval` at the same position are not mistaken for each other', () => {
    const [a, b] = ['a', 'b'].map(
      (name) =>
        runInThisContext(`(capture) => eval("(function ${name}() { return capture(); })")`)(
          captureFrames,
        ) as typeof captureFrames,
    ) as [typeof captureFrames, typeof captureFrames];
    expect([a()[0]?.slice(0, 2), b()[0]?.slice(0, 2)]).toEqual(['a ', 'b ']);
  });

  test.each([
    [
      'throws',
      () => {
        throw new Error('no');
      },
    ],
    ['returns no text', () => [] as unknown],
  ])('a `prepareStackTrace` that %s does no harm and stays', (_, prepare) => {
    const errors = Error as { prepareStackTrace?: unknown };
    const before = Object.getOwnPropertyDescriptor(Error, 'prepareStackTrace');
    errors.prepareStackTrace = prepare;
    const frames = captureFrames();
    const after = errors.prepareStackTrace;
    if (before === undefined) delete errors.prepareStackTrace;
    else Object.defineProperty(Error, 'prepareStackTrace', before);
    expect(frames).toEqual([]);
    expect(after).toBe(prepare);
  });
});
