/**
 * The state of the model: Redis, the processes, their calls, the connections between them, and the faults still to
 * come. A step changes the copy that `copyState` makes, and replaces whatever is `readonly` here.
 */
export type ProcessId = number;
/** A call of `acquire`. A lease bears the number of the call that Redis granted it to. */
export type CallId = number;

export type CallStatus = 'idle' | 'waiting' | 'holding' | 'ended';

export interface Call {
  readonly status: CallStatus;
  /** The lease that the call holds; -1 while it holds none. */
  readonly lease: CallId;
  readonly slot: number;
  /** The place in the order of arrival, in a scenario where Redis forgets its state; 0 before the arrival. */
  readonly ticket: number;
  /** Whether Redis has assigned the ticket in an earlier life. */
  readonly isOld: boolean;
}

export interface Lease {
  readonly lease: CallId;
  readonly slot: number;
}

export type Command =
  | { readonly kind: 'acquire'; readonly call: CallId }
  | { readonly kind: 'release'; readonly lease: CallId }
  | { readonly kind: 'cancel'; readonly call: CallId }
  | { readonly kind: 'transfer'; readonly lease: CallId; readonly slot: number; readonly call: CallId }
  | { readonly kind: 'pause' }
  | { readonly kind: 'renew'; readonly leases: readonly Lease[]; readonly calls: readonly CallId[] };

/** The commands of one call of the script. */
export interface Batch {
  readonly epoch: number;
  readonly sequence: number;
  readonly commands: readonly Command[];
}

/** One sending of a batch; `age` counts the ticks since this sending. */
export interface Request {
  readonly batch: Batch;
  readonly age: number;
}

export interface Reply {
  readonly outcome: 'applied' | 'refused' | 'unknown owner';
  readonly batch: Batch;
  /** Ticks since the batch was sent. */
  readonly age: number;
  readonly version: number;
  readonly grants: readonly Lease[];
  readonly lost: readonly CallId[];
  /** The calls of the process that stand in a row at the head of the queue. */
  readonly row: readonly CallId[];
  /** Whether a released slot may stay with the process. */
  readonly linger: boolean;
  /** The life of Redis that has written the reply. */
  readonly life: number;
}

export type Message =
  | { readonly kind: 'grant'; readonly epoch: number; readonly call: CallId; readonly slot: number }
  | { readonly kind: 'withdraw'; readonly version: number };

/** The record that Redis keeps of a process. */
export interface Owner {
  readonly epoch: number;
  /** The sequence number of the next batch that Redis applies. */
  readonly next: number;
  /** Ticks since the latest batch that Redis accepted. */
  readonly age: number;
  /** Whether the latest reply let released slots stay with the process. */
  readonly lingers: boolean;
}

export interface Place {
  readonly call: CallId;
  /** Ticks since the call joined the queue, up to the bound. */
  readonly age: number;
  /** Whether the waiter returned to its old place past the bound after a loss. */
  readonly isLate: boolean;
}

export interface Redis {
  owners: (Owner | undefined)[];
  queue: readonly Place[];
  /** The lease in each slot; -1 for a free slot. */
  slots: readonly CallId[];
  limit: number;
  /** Ticks since the limit was lowered, up to the bound. */
  loweredAge: number;
  /** Ticks since the pause began; -1 without a pause. */
  pausedAge: number;
  /** Counts the withdrawals of permissions. */
  version: number;
  /** Counts how often Redis has forgotten its state. */
  life: number;
  /** Ticks since the latest loss, up to the bound. */
  lostAge: number;
  /** Ticks since the latest batch, in a scenario where the clock is set back. */
  silence: number;
  /** Ticks that the time of Redis is behind, after the clock was set back. */
  lag: number;
  /** Ticks for which owners live longer, after a process has confirmed the lost time. */
  grace: number;
}

/** The permission of the latest reply: actions of the process without a round trip. */
export interface Permission {
  readonly row: readonly CallId[];
  readonly linger: boolean;
  /** Ticks since the batch of that reply was sent. */
  readonly age: number;
  readonly version: number;
}

export interface Process {
  crashed: boolean;
  epoch: number;
  sequence: number;
  /** Ticks since the sending of the latest batch that Redis is known to have applied. */
  age: number;
  outbox: readonly Command[];
  unanswered: readonly Batch[];
  permission: Permission | undefined;
  /** The highest version that a reply or a message has brought. */
  seenVersion: number;
  lingering: readonly Lease[];
  /** Whether Redis may have forgotten the leases, and the process has had no reply since. */
  restores: boolean;
  /** Whether the process has to list its leases and waiters, since its connection was lost. */
  listsNext: boolean;
  /** Ticks since the process stated its waiters in a new epoch; -1 if that was long ago. */
  statedAge: number;
}

/** The connections of one process. */
export interface Link {
  requests: readonly Request[];
  replies: readonly Reply[];
  messages: readonly Message[];
  /** A request of a broken connection that the server has still to read. */
  late: Request | undefined;
}

/** How many faults and outside commands may still come. */
export interface Budget {
  readonly crash: number;
  readonly cancel: number;
  readonly loseMessage: number;
  readonly bounce: number;
  readonly break: number;
  /** Pauses by a process that has no calls, and by one of the two. */
  readonly pause: number;
  readonly ownPause: number;
  readonly lower: number;
  /** Losses of all data, with all connections. */
  readonly lose: number;
  /** The clock of the server is set forwards, or back. */
  readonly forward: number;
  readonly back: number;
  /** Ticks that pass while something is on its way. */
  readonly slow: number;
  /** Faults and outside commands, together; neither `cancel` nor `slow`. */
  readonly total: number;
}

export interface State {
  redis: Redis;
  processes: Process[];
  links: Link[];
  calls: Call[];
  budget: Budget;
}

/** A copy for a step of one process, or of all processes for -1. The other processes keep their records. */
export function copyState({ redis, processes, links, calls, budget }: State, process: ProcessId): State {
  const isTouched = (index: ProcessId): boolean => process < 0 || index === process;
  return {
    redis: { ...redis, owners: redis.owners.slice() },
    processes: processes.map((record, index) => (isTouched(index) ? { ...record } : record)),
    links: links.map((link, index) => (isTouched(index) ? { ...link } : link)),
    calls: calls.slice(),
    budget,
  };
}
