/** Whether a value is a promise, of this platform or of any library. A value that is none can be used at once. */
export function isPromiseLike(value: unknown): value is PromiseLike<unknown> {
  return Object(value) === value && typeof (value as Partial<PromiseLike<unknown>>).then === 'function';
}
