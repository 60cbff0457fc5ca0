/** Names of gates for the messages of the development aids and of tests. */
import { printable } from './refusals.js';

/** The kind, the name and the limits of a gate. A gate of another copy of headgate may lack some of the properties. */
export function labelOf(gate: object): string {
  const { describe, key, name } = gate as { describe?: unknown; key?: unknown; name?: unknown };
  if (typeof describe === 'function') return String(describe.call(gate));
  if (typeof key === 'string') return `RedisThrottle ${printable(key)}`;
  return typeof name === 'string' ? `the gate ${printable(name)}` : 'a gate without a name';
}
