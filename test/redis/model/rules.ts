/** The time bounds of the protocol, and the faults that a run can plant. */

/** Ticks after which Redis presumes a silent owner dead. */
export const TTL = 2;
/** Ticks after which a process gives up its leases by its own clock. */
export const SAFE = 2;
/** Ticks for which a permission is valid. */
export const BOUND = 1;
/** Ticks that a pause lasts. */
export const PAUSE = 2;

export const FAULTS = {
  rowWithoutNames: 'a reply gives the length of the row and no serial',
  rowNotShortened: 'a process hands on and leaves the length of the row as it was',
  rowPastOthers: 'the row counts waiters that stand behind waiters of another process',
  rowWhilePaused: 'Redis confirms a row during a pause and above the limit',
  noBound: 'a permission has no bound in time',
  ownPauseForgotten: 'a process that pauses takes a permission from a reply to an earlier batch',
  staleReply: 'a process takes a permission from a reply that is older than a withdrawal',
  transferToLapsed: 'Redis makes the lease of a transfer anew after it has lapsed',
  extraSlotKept: 'a transfer leaves the slot that its waiter was granted meanwhile',
  extraSlotUsed: 'a process uses the grant of a served waiter for its next waiter',
  cancelKeepsGrant: 'a cancellation removes the waiter and leaves its grant',
  renewalOutOfOrder: 'Redis applies renewals whatever their sequence number is',
  gapAccepted: 'Redis applies a batch although an earlier one is missing',
  cancelBeforeAcquire: 'Redis applies a cancellation before the acquire that is sent again',
  duplicateApplied: 'Redis applies a batch a second time',
  ageFromReceipt: 'a process counts the age of its leases from the receipt of a reply',
  lateLeaseKept: 'a process keeps its leases although no renewal succeeded in time',
  lateGrantTaken: 'a process takes a grant that comes after its leases have lapsed',
  oldGrantTaken: 'a process takes a grant of an earlier epoch',
  grantNotRepeated: 'a renewal does not repeat a grant whose message was lost',
  lingerNotRecalled: 'Redis sends no recall and lets slots linger while others wait',
  recallByMessageOnly: 'a process returns lingering slots for a message and not for a reply',
  lostLeaseKept: 'Redis does not report a stated lease as lost whose slot it has given away',
  waitersNotStated: 'a process states its leases and not its waiters in a new epoch',
  firstBatchUnchanged: 'batch 0 is sent again without the leases that messages have brought since',
  placesLost: 'waiters that return after a loss of all data join the tail of the queue',
  permissionAfterLoss: 'a process takes a permission as soon as it has stated its waiters in a new epoch',
  unknownOwnerServed: 'Redis applies a batch of a process that it has forgotten',
  clockStandsStill: 'the time of Redis stands still until a clock that was set back has caught up',
  noGrace: 'a confirmed instant makes renewals of the time before too old',
  lingerPastOwnWaiters: 'a new call takes a lingering slot before an earlier call of its process',
} as const;

export type Fault = keyof typeof FAULTS;

export interface Rules {
  readonly linger: boolean;
  /** Whether Redis may forget its state, so that the order of arrival must be known. */
  readonly forgets: boolean;
  /** Whether the clock may be set back. */
  readonly setsBack: boolean;
  /** How many batches of a process may be unanswered at a time. */
  readonly pipeline: number;
  readonly fault?: Fault | undefined;
  /** The process of each call, by number. The calls of one process start in this order. */
  readonly owners: readonly number[];
  /** The calls of each process. */
  readonly calls: readonly (readonly number[])[];
}
