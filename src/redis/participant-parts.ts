/** The objects and settings that the parts of one throttle object share, and the notifications that they send it. */
import type { NamedRates } from '../core/cost.js';
import type { EventPublisher } from '../core/events.js';
import type { Call } from './calls.js';
import type { Fallback } from './fallback.js';
import type { Labelled } from './options.js';
import type { SteadyClock } from './steady-clock.js';
import type { Wire } from './wire.js';

export interface ParticipantParts {
  /** The throttle object, for messages. */
  readonly face: Labelled;
  readonly clock: SteadyClock;
  readonly wire: Wire;
  readonly publisher: EventPublisher;
  /** Grants permits while Redis fails; `undefined` without `failOpen`. */
  readonly fallback: Fallback | undefined;
  /** The named rates; `undefined` without names. */
  readonly rates?: NamedRates | undefined;
  readonly ttl: number;
  /** Seconds; 0 once the throttle object accepts no calls. */
  readonly linger: number;
  readonly maxQueue: number;
  /** Called when nothing is held, no call waits and Redis has confirmed everything. */
  readonly onIdle: () => void;
  /** Whether the throttle object is used no more once it is idle. */
  readonly isLeaving: () => boolean;
  /** Whether the throttle object is closed and idle. */
  readonly isDisposed: () => boolean;
  /** Called with 1 when a call waits, and with -1 when it does not wait any more. */
  readonly onResize?: (change: 1 | -1) => void;
  /** Ends a call that gets no permit. */
  readonly settleWithoutPermit: (call: Call, error: unknown, reason?: 'aborted') => void;
}
