/** Types of costs by name: the names are inferred from the options, and an unknown name does not compile. */
import type { PermitExpiredError } from 'headgate';
import {
  type AcquireOptions,
  type Cost,
  type CostRecord,
  type Gate,
  type KeyedGate,
  KeyedThrottle,
  Limiter,
  type Permit,
  type Rate,
  Resource,
  Throttle,
  type ThrottleError,
  type ThrottleOptions,
  type ThrottleSettings,
} from 'headgate';
import { expectTypeOf } from 'vitest';

// Inferred names, without a cast
const llm = new Throttle(500, 20, 60, {
  burst: 100,
  also: [{ name: 'input', capacity: 200_000, period: 60 }, { capacity: 5 }, { name: 'output', capacity: 100 }],
});
expectTypeOf(llm).toEqualTypeOf<Throttle<'input' | 'output'>>();
expectTypeOf(new Throttle(1)).toEqualTypeOf<Throttle>();
expectTypeOf(new Throttle(1, 2, 3, { burst: 4, also: [{ capacity: 1 }] })).toEqualTypeOf<Throttle>();
expectTypeOf(
  new Throttle({
    capacity: 500,
    also: [{ name: 'input', capacity: 5 }, { capacity: 5 }, { name: 'output', capacity: 1 }],
  }),
).toEqualTypeOf<Throttle<'input' | 'output'>>();
expectTypeOf(new Throttle({ burst: 4, also: [{ capacity: 1 }] })).toEqualTypeOf<Throttle>();
expectTypeOf(new KeyedThrottle({ also: [{ name: 'tokens', capacity: 5 }], maxKeys: 3 })).toEqualTypeOf<
  KeyedThrottle<string, 'tokens'>
>();
declare const someSettings: ThrottleSettings;
expectTypeOf(new Throttle(someSettings)).toEqualTypeOf<Throttle<string>>();
expectTypeOf(llm.levels).toEqualTypeOf<Readonly<Record<'input' | 'output', number>>>();
declare const someOptions: ThrottleOptions;
expectTypeOf(new Throttle(1, 0, 1, someOptions)).toEqualTypeOf<Throttle<string>>();
declare const someRates: Rate[];
void new Throttle(1, 0, 1, { also: someRates }).acquire({ anything: 1 });

// Every cost accepts the names, and refuses others.
void llm.acquire({ input: 1, output: 2, cost: 3 }, { slots: 2 });
void llm.acquire({});
// @ts-expect-error an unknown name
void llm.acquire({ inptu: 1 });
// @ts-expect-error the value is a number
void llm.acquire({ input: '1' });
// @ts-expect-error slots is a number
void llm.acquire(1, { slots: '2' });
llm.tryAcquire({ output: 1 });
// @ts-expect-error an unknown name
llm.tryAcquire({ outptu: 1 });
void llm.run((permit) => permit.settle({ input: 1 }), { input: 2 });
// @ts-expect-error an unknown name
void llm.run(() => 1, { inptu: 2 });
// @ts-expect-error an unknown name in settle
void llm.run((permit) => permit.settle({ inptu: 1 }));
void llm.wrap((text: string) => text, { input: 1 });
void llm.wrap(
  (text: string) => text,
  (text) => ({ input: text.length }),
);
// @ts-expect-error an unknown name
void llm.wrap((text: string) => text, { inptu: 1 });
// @ts-expect-error an unknown name in the result of the function
void llm.wrap(String, (text: string) => ({ inptu: text.length }));
void llm.map(['a'], (text) => text, { cost: { input: 1 } });
void llm.map(['a'], (text) => text, { cost: (text) => ({ input: text.length }) });
// @ts-expect-error an unknown name
void llm.map(['a'], (text) => text, { cost: { inptu: 1 } });
llm.estimateWait({ input: 1 });
// @ts-expect-error an unknown name
llm.estimateWait({ inptu: 1 });
llm.correct({ input: 5 }, { onlyLower: true });
llm.correct(-5);
// @ts-expect-error an unknown name
llm.correct({ inptu: 5 });
// @ts-expect-error an unknown option
llm.correct(5, { onlyHigher: true });
// @ts-expect-error a throttle without names
void new Throttle(1).acquire({ input: 1 });
void new Throttle(1).acquire({ cost: 1 });
// @ts-expect-error a resource has no names
void new Resource(1).acquire({ input: 1 });

// Permits
const permit = await llm.acquire();
expectTypeOf(permit.costs).toEqualTypeOf<Readonly<Record<'input' | 'output', number>>>();
expectTypeOf(permit.slots).toEqualTypeOf<number>();
expectTypeOf(permit.signal).toEqualTypeOf<AbortSignal>();
permit.settle({ cost: 1, input: 2 });
permit.settle(3);
// @ts-expect-error an unknown name
permit.settle({ inptu: 2 });
// @ts-expect-error read only
permit.costs.input = 3;
const anyPermit: Permit = permit;
void anyPermit;
const plainPermit: Permit<never> = await new Throttle(1).acquire();
void plainPermit;

// KeyedThrottle
const keyed = new KeyedThrottle(10, 2, 1, { also: [{ name: 'tokens', capacity: 5 }], maxKeys: 3 });
expectTypeOf(keyed).toEqualTypeOf<KeyedThrottle<string, 'tokens'>>();
expectTypeOf(new KeyedThrottle(10)).toEqualTypeOf<KeyedThrottle>();
expectTypeOf(keyed.peek('ada')).toEqualTypeOf<Throttle<'tokens'> | undefined>();
void keyed.acquire('ada', { tokens: 1 });
// @ts-expect-error an unknown name
void keyed.acquire('ada', { tokns: 1 });
// @ts-expect-error an unknown name
keyed.tryAcquire('ada', { tokns: 1 });
// @ts-expect-error an unknown name
void keyed.run('ada', () => 1, { tokns: 1 });
keyed.correct('ada', { tokens: 1 });
// @ts-expect-error an unknown name
keyed.correct('ada', { tokns: 1 });

// Gates
expectTypeOf<Throttle<'tokens'>>().toExtend<Gate>();
expectTypeOf<Throttle<string>>().toExtend<Gate>();
expectTypeOf<KeyedThrottle<string, 'tokens'>>().toExtend<KeyedGate>();
const gates: Gate[] = [llm, new Throttle(1), new Resource(1)];
await gates[0]?.correct?.({ tokens: 1 }, { onlyLower: true });

/** A gate that a user wrote and that only knows numbers. */
class NumberGate {
  readonly #gate = new Throttle(1);
  acquire(cost?: number, options?: AcquireOptions): Promise<Permit> {
    return this.#gate.acquire(cost, options);
  }
  tryAcquire(cost?: number): Permit | undefined {
    return this.#gate.tryAcquire(cost);
  }
  run<T>(fn: (permit: Permit) => T | PromiseLike<T>, cost?: number, options?: AcquireOptions): Promise<T> {
    return this.#gate.run(fn, cost, options);
  }
  pause(seconds?: number): void {
    this.#gate.pause(seconds);
  }
  resume(): void {
    this.#gate.resume();
  }
  close(reason?: unknown): void {
    this.#gate.close(reason);
  }
}
expectTypeOf<NumberGate>().toExtend<Gate>();

// Limiter: costs by the names of gates
const limiter = new Limiter({ timeout: 1, resources: [llm, new NumberGate()] });
const joint = await limiter.acquire([llm], { cost: { llm: { input: 5 }, files: 1 }, timeout: 1, slots: 1 });
joint.settle({ llm: { input: 5 }, files: 2 });
joint.settle(1);
void limiter.resources([llm]).run((all) => all.settle({ llm: 1 }), { llm: { input: 1 } });
// @ts-expect-error a cost is a number or a record of numbers
void limiter.acquire([llm], { cost: { llm: 'one' } });
void ((both: ReturnType<Limiter['resources']>): Gate => both);

expectTypeOf<Cost<never>>().toEqualTypeOf<number | { readonly cost?: number | undefined }>();
expectTypeOf<CostRecord<'a'>>().toEqualTypeOf<{
  readonly a?: number | undefined;
  readonly cost?: number | undefined;
}>();
expectTypeOf<PermitExpiredError>().toExtend<ThrottleError>();
