/** `headgate/testing`: a manual clock, a recorder of a throttle's events, and a picture of a recording. */
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
