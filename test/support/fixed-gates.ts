/** Gates with a fixed result. */
import { type KeyedGate, Throttle, ThrottleTimeoutError } from 'headgate';

/** A gate whose only slot is taken. */
export const fullGate = (): Throttle => {
  const gate = new Throttle(Infinity, 1);
  gate.tryAcquire();
  return gate;
};

/** A keyed gate that refuses every call, and the keys that it has received. */
export const refusingGate = (): { keyed: KeyedGate; keys: string[] } => {
  const keys: string[] = [];
  const acquire = async (key: string): Promise<never> => {
    keys.push(key);
    throw new ThrottleTimeoutError('full');
  };
  return { keyed: { keyed: true, acquire } as unknown as KeyedGate, keys };
};
