/** Invalid arguments are refused with an error that names the argument and the received value. */
import type { AcquireOptions, Gate } from 'headgate';
import { expect, test } from 'vitest';
import { errorOf, invalid, show, take, type Suite } from './suite.js';

export function invalidArguments({ section, testIf, withGate, long, features }: Suite): void {
  section('invalid arguments are refused by name before anything is taken', () => {
    const options = (bad: object): AcquireOptions => bad;
    const numbers = [
      [-1, RangeError],
      [NaN, RangeError],
      ['1', TypeError],
      [null, TypeError],
      [true, TypeError],
    ] as const;
    const calls: [shown: string, argument: string, Kind: ErrorConstructor, call: (gate: Gate) => unknown][] = [
      ...[...numbers, [Infinity, RangeError] as const].flatMap(([bad, Kind]): typeof calls => [
        [`acquire(${show(bad)})`, 'cost', Kind, (gate) => gate.acquire(invalid(bad))],
        [`run(fn, ${show(bad)})`, 'cost', Kind, (gate) => gate.run(() => {}, invalid(bad))],
        [`tryAcquire(${show(bad)})`, 'cost', Kind, (gate) => gate.tryAcquire(invalid(bad))],
      ]),
      ...numbers.flatMap(([bad, Kind]): typeof calls => [
        [
          `acquire(1, { timeout: ${show(bad)} })`,
          'timeout',
          Kind,
          (gate) => gate.acquire(1, options({ timeout: bad })),
        ],
        [
          `run(fn, 1, { timeout: ${show(bad)} })`,
          'timeout',
          Kind,
          (gate) => gate.run(() => {}, 1, options({ timeout: bad })),
        ],
      ]),
      ...[null, 5, {}, 'stop'].flatMap((bad): typeof calls => [
        [
          `acquire(1, { signal: ${show(bad)} })`,
          'signal',
          TypeError,
          (gate) => gate.acquire(1, options({ signal: bad })),
        ],
        [
          `run(fn, 1, { signal: ${show(bad)} })`,
          'signal',
          TypeError,
          (gate) => gate.run(() => {}, 1, options({ signal: bad })),
        ],
      ]),
      ...[null, 5].flatMap((bad): typeof calls => [
        [`acquire(1, ${bad})`, 'options', TypeError, (gate) => gate.acquire(1, invalid(bad))],
        [`run(fn, 1, ${bad})`, 'options', TypeError, (gate) => gate.run(() => {}, 1, invalid(bad))],
      ]),
      ...[undefined, null, 'work'].map((bad): (typeof calls)[number] => [
        `run(${show(bad)})`,
        'fn',
        TypeError,
        (gate) => gate.run(invalid(bad)),
      ]),
    ];
    test.each(calls)('%s: %s', (shown, argument, Kind, call) =>
      withGate({ concurrency: 1 }, async ({ gate }) => {
        let answer: unknown;
        const error = await errorOf(() => (answer = call(gate)));
        expect(error).toBeInstanceOf(Kind);
        expect(error.message).toMatch(new RegExp(`^${argument} must be .*, received `));
        // A caller that awaits acquire or run handles every error in one place.
        if (!shown.startsWith('try')) expect(answer).toBeInstanceOf(Promise);
        await take(gate);
      })(),
    );

    testIf(features.pause).each(numbers)('pause(%s): seconds', (seconds, Kind) =>
      withGate({}, async ({ gate }) => {
        const error = await errorOf(() => gate.pause(invalid(seconds)));
        expect(error).toBeInstanceOf(Kind);
        expect(error.message).toMatch(/^seconds must be .*, received /);
        await take(gate);
      })(),
    );

    testIf(features.rate)(
      'invalid calls spend no tokens',
      withGate({ capacity: 4, period: long }, async ({ gate }) => {
        await Promise.all(calls.map(async ([, , , call]) => errorOf(() => call(gate))));
        await take(gate, 4);
      }),
    );
  });
}
