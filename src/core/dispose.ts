/**
 * Support of `using` and `await using`, also if a polyfill defines `Symbol.dispose` after this package is loaded.
 * Without this support, a class would have its method under the key "undefined", and `using` in compiled code would
 * never release a permit.
 */

/**
 * The key of the method that `using` calls: the symbol of the platform or, without one, the symbol that compilers use.
 */
function keyOf(kind: 'dispose' | 'asyncDispose'): symbol {
  return (Symbol as { dispose?: symbol; asyncDispose?: symbol })[kind] ?? Symbol.for(`Symbol.${kind}`);
}

/**
 * Adds `method` to `prototype` under the key of `kind`. Every constructor call repeats it, in case of a new polyfill.
 */
export function addDisposal<T extends object>(
  prototype: T,
  kind: 'dispose' | 'asyncDispose',
  method: (this: T) => unknown,
): void {
  const key = keyOf(kind);
  if (!Object.hasOwn(prototype, key))
    Object.defineProperty(prototype, key, { value: method, writable: true, configurable: true });
}

/** Disposes `resource` as `await using` does at the end of its block. */
export async function dispose(resource: object): Promise<void> {
  const method = (resource as { [key: symbol]: unknown })[keyOf('asyncDispose')];
  if (typeof method === 'function') await method.call(resource);
}
