/**
 * A reporter of vitest. It prints the errors of each test that passed only when it ran again. A busy machine may have
 * delayed the test, or the test has found a rare fault, which the second run would hide.
 */
import type { Reporter } from 'vitest/node';

export const retriedTests: Reporter = {
  onTestCaseResult(test) {
    const { state, errors = [] } = test.result();
    if (state !== 'passed' || errors.length === 0) return;
    console.error(`Passed only when it ran again: ${test.module.relativeModuleId} > ${test.fullName}`);
    for (const { message, stack } of errors) console.error(stack?.includes(message) ? stack : `${message}\n${stack}`);
  },
};
