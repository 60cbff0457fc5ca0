/** Whether a value is a promise, of this platform or of any library. Any other value can be used without a wait. */
export function isPromiseLike(value: unknown): value is PromiseLike<unknown> {
  return Object(value) === value && typeof (value as Partial<PromiseLike<unknown>>).then === 'function';
}
