/**
 * Draws a trace as a picture: the waits and the running times of all calls, the number running at once, the tokens and
 * the pauses. `read.ts` reads the events, `lines.ts` and `layout.ts` compute values and positions, `summary.ts` words,
 * and `draw.ts` writes elements of `svg.ts`. No DOM and no clock: the same trace gives the same text on every platform.
 */
import { checkOptionNames } from '../../core/option-names.js';
import { checkInteger, checkNumber, checkObject, invalid } from '../../core/validation.js';
import type { Trace } from '../recorder.js';
import { drawTimeline } from './draw.js';
import { defaultEnd } from './layout.js';
import { readTrace } from './read.js';

/** Options of {@link toSVG}: the title, the time span and the width. */
export interface TimelineOptions {
  /** The headline. Default: the name of the throttle. */
  title?: string | undefined;
  /** The start of the time axis: seconds after the first event, >= 0. Default 0. */
  since?: number | undefined;
  /** The end of the time axis: seconds after the first event. Default: shortly after the last event. */
  until?: number | undefined;
  /** CSS pixels, an integer from 360 to 4096. Default 560. A wider picture keeps the size of its text. */
  width?: number | undefined;
}

/**
 * Draws a trace as a timeline. From top to bottom:
 *
 * - A lane for each call. The bar is thin while the call waits and thick while it runs. A refused call has a hollow
 *   bar, a cross and the reason.
 * - The number of calls that run at once.
 * - The tokens.
 * - The time, in seconds since the first event.
 *
 * A pause is a band behind all of them. A call or pause that has not ended reaches the right edge.
 *
 * The size of the picture is bounded for any length of the trace:
 *
 * - More than 24 calls share lanes, if 24 lanes are enough when a call may use the lane of an ended call. Otherwise
 *   each call gets a thin lane.
 * - Of more than 200 calls, every second one has a lane, or every third, and so on. The picture states that number. The
 *   other two panels count all calls.
 * - Pauses that end on one pixel become one band with their number. Of several changes of the limits on one pixel, the
 *   last one is drawn.
 *
 * Between two events the tokens refill evenly, as in a bucket. The recorded levels may contradict that (a sliding
 * window, several rates). The line then stays level until the next event: at least that many tokens were available. A
 * trace without tokens has no token panel. Token values that are not finite count as unknown.
 *
 * @param trace A trace from `record`, or a copy of it.
 * @param options {@link TimelineOptions}
 * @returns An SVG document. It has colours for light and dark pages, and a description for screen readers.
 * @throws {RangeError | TypeError} `trace` is not a trace, an instant in it is not a finite number, or an option is out
 *   of range.
 *
 * @example
 * import { Throttle } from 'headgate';
 * import { record, toSVG } from 'headgate/testing';
 *
 * const throttle = new Throttle(10, 2, 1, { name: 'api' });
 * const trace = record(throttle);
 * await Promise.all(['a', 'b', 'c'].map((name) => throttle.run(async () => name)));
 * console.log(toSVG(trace).slice(0, 4)); // → <svg
 */
export function toSVG(trace: Trace, options: TimelineOptions = {}): string {
  if (!Array.isArray(trace?.events) || typeof trace.limits?.period !== 'number')
    throw invalid('trace', 'a trace from record()', trace);
  checkObject('options', options);
  checkOptionNames('toSVG', options, ['title', 'since', 'until', 'width']);
  const { title = trace.name ?? 'Throttle', since = 0, width = 560 } = options;
  if (typeof title !== 'string') throw invalid('title', 'a string', title);
  checkNumber('since', 'a finite number >= 0', since, 0, Number.MAX_VALUE);
  checkInteger('width', 'an integer from 360 to 4096', width, 360, 4096);
  const history = readTrace(trace);
  const { until = defaultEnd(history, since) } = options;
  checkNumber('until', 'a finite number', until, -Number.MAX_VALUE, Number.MAX_VALUE);
  if (until <= since) throw invalid('until', `greater than since (${since})`, until, RangeError);
  return drawTimeline(history, title, since, until, width);
}
