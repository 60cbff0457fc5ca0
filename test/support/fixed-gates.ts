/** Gates that do as they are told. */
import { type KeyedGate, Throttle, ThrottleTimeoutError } from 'headgate';

/** A gate that is full. */
export const full = (): Throttle => {
  const gate = new Throttle(Infinity, 1);
  gate.tryAcquire();
  return gate;
};

/** A keyed gate that refuses, and tells whom. */
export const namesakes = (): { keyed: KeyedGate; names: string[] } => {
  const names: string[] = [];
  const acquire = async (name: string): Promise<never> => {
    names.push(name);
    throw new ThrottleTimeoutError('full');
  };
  return { keyed: { keyed: true, acquire } as unknown as KeyedGate, names };
};
