/** Promise 1. The number of held permits never exceeds `concurrency`. */
import { expect, test } from 'vitest';
import { take, takeAll, type Suite } from './suite.js';

export function concurrency({ section, withGate }: Suite): void {
  section('promise 1: concurrency', () => {
    test(
      'no more functions run than there are slots, and no fewer while a caller waits',
      withGate({ concurrency: 3 }, async ({ gate, settled }) => {
        const finish: (() => void)[] = [];
        const seen: number[] = [];
        let running = 0;
        const all = Array.from({ length: 9 }, () =>
          gate.run(async () => {
            running++;
            await new Promise<void>((resolve) => void finish.push(resolve));
            running--;
          }),
        );
        for (let round = 0; round < 9; round++) {
          await settled();
          seen.push(running);
          finish.shift()!();
        }
        await Promise.all(all);
        expect(seen).toEqual([3, 3, 3, 3, 3, 3, 3, 2, 1]);
      }),
    );

    test(
      'tryAcquire, acquire and run share the slots of one gate',
      withGate({ concurrency: 3 }, async ({ gate, settled, outcomes, acquireAs }) => {
        let finish: () => void = () => {};
        const job = gate.run(() => new Promise<void>((resolve) => (finish = resolve)));
        await settled();
        acquireAs('acquired');
        await settled();
        expect(outcomes.order).toEqual(['acquired']);
        const tried = await take(gate);
        expect(await gate.tryAcquire()).toBeUndefined();
        finish();
        await job;
        outcomes.permit('acquired').release();
        tried.release();
        expect(await takeAll(gate)).toHaveLength(3);
      }),
    );

    test(
      'a concurrency of 0 sets no limit',
      withGate({ concurrency: 0 }, async ({ gate }) => {
        expect(await takeAll(gate)).toHaveLength(10);
      }),
    );

    test(
      'a cost of 0 takes a slot',
      withGate({ concurrency: 1 }, async ({ gate }) => {
        const permit = await gate.acquire(0);
        expect(permit.cost).toBe(0);
        expect(await gate.tryAcquire(0)).toBeUndefined();
        permit.release();
        expect(await takeAll(gate, 0)).toHaveLength(1);
      }),
    );
  });
}
