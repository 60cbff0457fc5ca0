/**
 * `using` and `await using`, also where `Symbol.dispose` is missing when this package is loaded, or is polyfilled later.
 * A class would then have its method under the key "undefined", and a permit of a lowered `using` would never be released.
 */

/** The key that `using` looks up: the platform's symbol or, where it is missing, the one that compilers fall back on. */
function keyOf(kind: 'dispose' | 'asyncDispose'): symbol {
  return (Symbol as { dispose?: symbol; asyncDispose?: symbol })[kind] ?? Symbol.for(`Symbol.${kind}`);
}

/** Adds `method` to `prototype` under the key of `kind`. To be called by each constructor, since a polyfill may come between two calls. */
export function addDisposal<T extends object>(
  prototype: T,
  kind: 'dispose' | 'asyncDispose',
  method: (this: T) => unknown,
): void {
  const key = keyOf(kind);
  if (!Object.hasOwn(prototype, key))
    Object.defineProperty(prototype, key, { value: method, writable: true, configurable: true });
}

/** What `await using` does with `resource` when its block ends. */
export async function dispose(resource: object): Promise<void> {
  const method = (resource as { [key: symbol]: unknown })[keyOf('asyncDispose')];
  if (typeof method === 'function') await method.call(resource);
}
