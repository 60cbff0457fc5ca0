/**
 * `headgate/testing`: a manual clock, a recorder of a throttle's events, a picture of a recording, and a check that a
 * gate is idle.
 */
export { expectIdle } from './expect-idle.js';
export { ManualClock } from './manual-clock.js';
export {
  type GrantedEvent,
  type PausedEvent,
  type QueuedEvent,
  record,
  type Recording,
  type RefusedEvent,
  type ReleasedEvent,
  type Trace,
  type TracedCall,
  type TracedEvent,
  type TracedLimits,
  type TraceEvent,
} from './recorder.js';
export { type TimelineOptions, toSVG } from './timeline/to-svg.js';
