/** The test cases of the semaphore of Python’s asyncio, under their names there. */
import type { Gate, Permit } from 'headgate';
import { expect, test } from 'vitest';
import { take, takeAll, type Suite } from './suite.js';

export function asyncioSemaphore({ section, withGate, unit }: Suite): void {
  section('the cases of asyncio’s semaphore', () => {
    /** Takes every slot, so that the gate matches a semaphore with an initial value of 0. */
    const taken = async (gate: Gate, slots: number): Promise<Permit[]> => {
      const holders: Permit[] = [];
      for (let count = 0; count < slots; count++) holders.push(await gate.acquire());
      return holders;
    };

    test(
      'acquire_cancel',
      withGate({ concurrency: 1 }, async ({ gate, settled, outcomes, acquireAs }) => {
        const [holder] = await taken(gate, 1);
        const stop = new AbortController();
        acquireAs('cancelled', 1, { signal: stop.signal });
        queueMicrotask(() => stop.abort());
        await settled();
        expect(outcomes.order).toEqual(['cancelled!']);
        holder!.release();
        expect(await takeAll(gate)).toHaveLength(1);
      }),
    );

    test(
      'acquire_cancel_before_awoken',
      withGate({ concurrency: 1 }, async ({ gate, settled, outcomes, acquireAs }) => {
        const [holder] = await taken(gate, 1);
        const stops = [new AbortController(), new AbortController()];
        stops.forEach(({ signal }, index) => acquireAs(`t${index + 1}`, 1, { signal }));
        acquireAs('t3');
        acquireAs('t4');
        await settled();
        for (const stop of stops) stop.abort();
        holder!.release();
        await settled();
        expect(outcomes.order.toSorted()).toEqual(['t1!', 't2!', 't3']);
      }),
    );

    test(
      'acquire_hang',
      withGate({ concurrency: 1 }, async ({ gate, settled, outcomes, acquireAs }) => {
        const [holder] = await taken(gate, 1);
        const stop = new AbortController();
        acquireAs('t1', 1, { signal: stop.signal });
        acquireAs('t2');
        await settled();
        stop.abort();
        holder!.release();
        await settled();
        expect(outcomes.order.toSorted()).toEqual(['t1!', 't2']);
        expect(await gate.tryAcquire()).toBeUndefined();
      }),
    );

    test(
      'acquire_no_hang',
      withGate({ concurrency: 1 }, async ({ gate, settled, outcomes, acquireAs }) => {
        const stop = new AbortController();
        const first = async (): Promise<void> => {
          {
            await using _ = await gate.acquire();
            await settled();
          }
          stop.abort();
        };
        const second = async (): Promise<void> => {
          await using _ = await gate.acquire(1, { signal: stop.signal });
        };
        // Granted or cancelled, the second caller leaves the slot free for the next caller.
        await Promise.allSettled([first(), second()]);
        acquireAs('next', 1, { timeout: unit });
        await settled();
        expect(outcomes.order).toEqual(['next']);
      }),
    );

    test(
      'acquire_fifo_order_1',
      withGate({ concurrency: 1 }, async ({ gate, settled }) => {
        const result: string[] = [];
        const twice = async (tag: string): Promise<void> => {
          for (const turn of [1, 2]) {
            const permit = await gate.acquire();
            result.push(`${tag}_${turn}`);
            await settled();
            permit.release();
          }
        };
        await Promise.all(['c1', 'c2', 'c3'].map(twice));
        expect(result).toEqual(['c1_1', 'c2_1', 'c3_1', 'c1_2', 'c2_2', 'c3_2']);
      }),
    );

    test(
      'acquire_fifo_order_2',
      withGate({ concurrency: 2 }, async ({ gate, settled }) => {
        const holders = await taken(gate, 2);
        const result: number[] = [];
        void gate.acquire().then(() => result.push(1));
        void gate.acquire().then((permit) => {
          result.push(2);
          permit.release();
          return gate.acquire().then(() => result.push(4));
        });
        const third = gate.acquire();
        void third.then(() => result.push(3));
        await settled();
        for (const holder of holders) holder.release();
        await settled();
        expect(result).toEqual([1, 2, 3]);
        (await third).release();
        await settled();
        expect(result).toEqual([1, 2, 3, 4]);
      }),
    );

    test(
      'acquire_fifo_order_3',
      withGate({ concurrency: 2 }, async ({ gate, settled, outcomes, acquireAs }) => {
        const holders = await taken(gate, 2);
        const stop = new AbortController();
        acquireAs('c1', 1, { signal: stop.signal });
        acquireAs('c2');
        acquireAs('c3');
        await settled();
        stop.abort();
        await settled();
        for (const holder of holders) holder.release();
        await settled();
        expect(outcomes.order).toEqual(['c1!', 'c2', 'c3']);
      }),
    );

    test(
      'acquire_fifo_order_4',
      withGate({ concurrency: 4 }, async ({ gate, settled }) => {
        const holders = await taken(gate, 4);
        const result: number[] = [];
        let fourth: Promise<unknown> = Promise.resolve();
        const first = gate.acquire().then(() => {
          // This call follows the calls for the second and the third permit, so it is granted last.
          fourth = gate.acquire().then(() => result.push(4));
          return result.push(1);
        });
        await settled();
        for (const holder of holders) holder.release();
        const second = gate.acquire().then(() => result.push(2));
        const third = gate.acquire().then(() => result.push(3));
        await Promise.all([first, second, third]);
        await fourth;
        expect(result).toEqual([1, 2, 3, 4]);
      }),
    );

    test(
      'release_not_acquired',
      withGate({ concurrency: 1 }, async ({ gate, settled }) => {
        const permit = await take(gate);
        permit.release();
        permit.release();
        await settled();
        const another = await take(gate);
        permit.release();
        await settled();
        expect(await gate.tryAcquire()).toBeUndefined();
        another.release();
        expect(await takeAll(gate)).toHaveLength(1);
      }),
    );
  });
}
