/** The warnings of the process, which are emitted once per code. */
import { afterEach, beforeEach, expect, type MockInstance, vi } from 'vitest';

type EmitWarning = (message: string, options: { code: string }) => void;

/** Records the warnings of each test, and forgets them afterwards, so that the next test can cause them again. */
export function recordWarnings(): { codes(): string[]; messages(): string[] } {
  let emit: MockInstance<EmitWarning>;
  const emitted = (): Set<string> | undefined =>
    (globalThis as { [key: symbol]: Set<string> | undefined })[Symbol.for('headgate.warnings')];
  beforeEach(() => {
    emitted()?.clear();
    emit = vi.spyOn(process, 'emitWarning').mockImplementation(() => {});
  });
  afterEach(() => {
    emitted()?.clear();
    emit.mockRestore();
  });
  return {
    codes: () => emit.mock.calls.map(([, { code }]) => code),
    messages: () => emit.mock.calls.map(([message]) => message),
  };
}

/** Expects no warning at all. */
export const expectNoWarning = (warnings: { codes(): string[] }): void => expect(warnings.codes()).toEqual([]);
