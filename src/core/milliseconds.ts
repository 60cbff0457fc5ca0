/** Warns about a duration that looks like milliseconds. All durations of headgate are seconds. */
import { warnOnce } from './warning.js';

const CODE = 'HEADGATE_MILLISECONDS';

/**
 * Emits one warning of the process if `seconds` is above 10,000 and a whole number of thousands. Whole hours up to a
 * year are real durations, so they cause no warning.
 *
 * @param name The name of the argument or option.
 */
export function warnIfMilliseconds(name: string, seconds: number): void {
  if (!(seconds > 10_000) || seconds % 1_000 !== 0 || (seconds % 3_600 === 0 && seconds <= 31_536_000)) return;
  warnOnce(
    CODE,
    `${name} is ${seconds} seconds, but looks like milliseconds: all durations are seconds, so write ` +
      `${seconds / 1_000} for ${seconds} ms. If ${seconds} s is meant, node --disable-warning=${CODE} silences this`,
  );
}
