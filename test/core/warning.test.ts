/** Warnings: once per process, on `process` or on the console. */
import { afterEach, expect, test, vi } from 'vitest';
import { warnIfMilliseconds } from '../../src/core/milliseconds.js';
import { hasWarned, warnOnce } from '../../src/core/warning.js';

const EMITTED = Symbol.for('headgate.warnings');
const shared = globalThis as { [EMITTED]?: Set<string> };
const before = shared[EMITTED];

afterEach(() => {
  vi.unstubAllGlobals();
  vi.restoreAllMocks();
  if (before === undefined) delete shared[EMITTED];
  else shared[EMITTED] = before;
});

test.each([
  [undefined, { type: 'HeadgateWarning', code: 'HEADGATE_TEST' }],
  [{ detail: 'more' }, { type: 'HeadgateWarning', code: 'HEADGATE_TEST', detail: 'more' }],
])('the process emits a warning once, with the options %j', (options, emitted) => {
  shared[EMITTED] = new Set();
  const emitWarning = vi.spyOn(process, 'emitWarning').mockImplementation(() => {});
  expect(hasWarned('HEADGATE_TEST')).toBe(false);
  warnOnce('HEADGATE_TEST', 'text', options);
  warnOnce('HEADGATE_TEST', 'text', options);
  expect(hasWarned('HEADGATE_TEST')).toBe(true);
  expect(emitWarning.mock.calls).toStrictEqual([['text', emitted]]);
});

test.each([
  ['no process', undefined],
  ['a process object without `emitWarning`', {}],
])('with %s, the console shows the code, the message and the detail', (_, process) => {
  shared[EMITTED] = new Set();
  const warn = vi.spyOn(console, 'warn').mockImplementation(() => {});
  vi.stubGlobal('process', process);
  warnOnce('HEADGATE_TEST', 'text');
  warnOnce('HEADGATE_TEST', 'text', { key: 'other', detail: 'more' });
  vi.unstubAllGlobals();
  expect(warn.mock.calls).toEqual([['HEADGATE_TEST: text'], ['HEADGATE_TEST: text\nmore']]);
});

test('the warning about milliseconds has a code that silences it', async () => {
  shared[EMITTED] = new Set();
  const emitWarning = vi.spyOn(process, 'emitWarning').mockImplementation(() => {});
  vi.resetModules();
  const copy = await import('../../src/core/milliseconds.js');
  copy.warnIfMilliseconds('timeout', 30_000);
  warnIfMilliseconds('timeout', 30_000);
  expect(emitWarning.mock.calls).toEqual([
    [
      expect.stringContaining('node --disable-warning=HEADGATE_MILLISECONDS silences this'),
      { type: 'HeadgateWarning', code: 'HEADGATE_MILLISECONDS' },
    ],
  ]);
});
