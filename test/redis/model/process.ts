/** How a process acts, and what it does with a reply or a message. Each function changes the state that it is given. */
import type { Note } from './redis.js';
import { BOUND, type Rules, SAFE } from './rules.js';
import type { Batch, CallId, Command, Lease, Message, Permission, Process, ProcessId, Reply, State } from './state.js';

/** A call without a lease and without a place. */
export const NO_LEASE = { lease: -1, slot: -1, ticket: 0, isOld: false } as const;

/** A process that holds nothing. `sequence`: the number of its next batch. */
export const newProcess = (sequence = 0): Process => ({
  crashed: false,
  epoch: 0,
  sequence,
  age: 0,
  outbox: [],
  unanswered: [],
  permission: undefined,
  seenVersion: 0,
  lingering: [],
  restores: false,
  listsNext: false,
  statedAge: -1,
});

export const waitersOf = (state: State, process: ProcessId, { calls }: Rules): CallId[] =>
  calls[process]!.filter((call) => state.calls[call]!.status === 'waiting');

/** The leases of a process by its own account. */
export function leasesOf(state: State, process: ProcessId, { calls }: Rules): Lease[] {
  const leases: Lease[] = [];
  for (const call of calls[process]!) {
    const { status, lease, slot } = state.calls[call]!;
    if (status === 'holding') leases.push({ lease, slot });
  }
  leases.push(...state.processes[process]!.lingering);
  return leases;
}

const hasStake = (state: State, process: ProcessId, rules: Rules): boolean =>
  waitersOf(state, process, rules).length > 0 || leasesOf(state, process, rules).length > 0;

function enqueueCommands(process: Process, ...commands: Command[]): void {
  process.outbox = [...process.outbox, ...commands];
}

function hold(state: State, call: CallId, { lease, slot }: Lease): void {
  state.calls[call] = { ...NO_LEASE, status: 'holding', lease, slot };
}

function end(state: State, call: CallId): void {
  state.calls[call] = { ...NO_LEASE, status: 'ended' };
}

/** The permission, if it is young enough. */
function validPermission({ permission }: Process, { fault }: Rules): Permission | undefined {
  return permission !== undefined && (permission.age < BOUND || fault === 'noBound') ? permission : undefined;
}

function returnLingering(process: Process): void {
  enqueueCommands(process, ...process.lingering.map(({ lease }) => ({ kind: 'release', lease }) as const));
  process.lingering = [];
}

function removeFromRow(process: Process, call: CallId): void {
  const { permission } = process;
  if (permission?.row.includes(call))
    process.permission = { ...permission, row: permission.row.filter((other) => other !== call) };
}

export function processTick(state: State, process: ProcessId, rules: Rules): void {
  const self = state.processes[process]!;
  self.age = Math.min(SAFE, self.age + 1);
  if (self.permission !== undefined)
    self.permission = { ...self.permission, age: Math.min(BOUND, self.permission.age + 1) };
  if (validPermission(self, rules) === undefined) self.permission = undefined;
  if (self.statedAge >= 0) self.statedAge = self.statedAge >= BOUND + SAFE ? -1 : self.statedAge + 1;
  if (self.age < SAFE || rules.fault === 'lateLeaseKept') return;
  for (const call of rules.calls[process]!) {
    const { status, lease } = state.calls[call]!;
    if (status !== 'holding') continue;
    end(state, call);
    enqueueCommands(self, { kind: 'release', lease });
  }
  returnLingering(self);
}

/** The next call of the process begins. */
export function acquire(state: State, process: ProcessId, call: CallId, rules: Rules, notes: Note[]): void {
  const self = state.processes[process]!;
  const waits = waitersOf(state, process, rules).length > 0 && rules.fault !== 'lingerPastOwnWaiters';
  const [lease, ...rest] = self.lingering;
  if (lease !== undefined && !waits && validPermission(self, rules)?.linger) {
    self.lingering = rest;
    notes.push({ kind: 'lingerUsed', process, call });
    hold(state, call, lease);
    return;
  }
  // After a long silence Redis has forgotten the process, or is about to.
  if (self.age >= SAFE && !hasStake(state, process, rules) && self.outbox.length + self.unanswered.length === 0) {
    self.epoch++;
    self.sequence = 0;
  }
  returnLingering(self);
  state.calls[call] = { ...NO_LEASE, status: 'waiting' };
  enqueueCommands(self, { kind: 'acquire', call });
}

export function release(state: State, process: ProcessId, call: CallId, rules: Rules, notes: Note[]): void {
  const self = state.processes[process]!;
  const { lease, slot } = state.calls[call]!;
  end(state, call);
  const permission = validPermission(self, rules);
  const next = permission?.row[0];
  if (permission !== undefined && next !== undefined) {
    notes.push({ kind: 'handedOn', process, call: next });
    hold(state, next, { lease, slot });
    enqueueCommands(self, { kind: 'transfer', lease, slot, call: next });
    removeFromRow(self, next);
    if (rules.fault === 'rowNotShortened')
      self.permission = { ...permission, row: waitersOf(state, process, rules).slice(0, permission.row.length) };
  } else if (
    permission?.linger &&
    (waitersOf(state, process, rules).length === 0 || rules.fault === 'lingerPastOwnWaiters')
  )
    self.lingering = [...self.lingering, { lease, slot }];
  else enqueueCommands(self, { kind: 'release', lease });
}

export function cancel(state: State, process: ProcessId, call: CallId): void {
  const self = state.processes[process]!;
  end(state, call);
  removeFromRow(self, call);
  const unsent = self.outbox.filter((command) => command.kind !== 'acquire' || command.call !== call);
  if (unsent.length < self.outbox.length) self.outbox = unsent;
  else enqueueCommands(self, { kind: 'cancel', call });
}

/** A process holds itself to its own pause from the call on. */
export function pause(self: Process): void {
  self.permission = undefined;
  returnLingering(self);
  enqueueCommands(self, { kind: 'pause' });
}

const isPause = ({ kind }: Command): boolean => kind === 'pause';

/** Whether Redis has still to confirm a pause of the process. */
export const isPausing = ({ outbox, unanswered }: Process): boolean =>
  outbox.some(isPause) || unanswered.some(({ commands }) => commands.some(isPause));

const isRenewal = ({ commands }: Batch): boolean => commands.some(({ kind }) => kind === 'renew');

/** The batch that the process has to send. */
function nextBatch(state: State, process: ProcessId, rules: Rules): Batch | undefined {
  const { age, epoch, sequence, outbox, unanswered, listsNext } = state.processes[process]!;
  if (unanswered.length >= rules.pipeline) return undefined;
  const commands = outbox.slice();
  if ((age > 0 || listsNext) && !unanswered.some(isRenewal) && hasStake(state, process, rules)) {
    const requested = new Set(outbox.flatMap((command) => (command.kind === 'acquire' ? [command.call] : [])));
    const calls = waitersOf(state, process, rules).filter((call) => !requested.has(call));
    const leases = leasesOf(state, process, rules);
    const renewal = { kind: 'renew', leases, calls } as const;
    // Requests that were never confirmed come behind the waiters that have a place.
    if (calls.length + leases.length > 0)
      if (sequence > 0) commands.push(renewal);
      else commands.unshift(rules.fault === 'waitersNotStated' ? { ...renewal, calls: [] } : renewal);
  }
  return commands.length > 0 ? { epoch, sequence, commands } : undefined;
}

/** A batch leaves as soon as the outbox has a command and the pipeline has room. */
export function send(state: State, process: ProcessId, rules: Rules): void {
  const self = state.processes[process]!;
  const link = state.links[process]!;
  const batch = nextBatch(state, process, rules);
  if (batch === undefined) return;
  self.outbox = [];
  if (batch.commands.some(({ kind }) => kind === 'renew')) self.listsNext = false;
  self.sequence++;
  self.unanswered = [...self.unanswered, batch];
  link.requests = [...link.requests, { batch, age: 0 }];
}

export function receiveReply(state: State, process: ProcessId, reply: Reply, rules: Rules): void {
  const self = state.processes[process]!;
  const link = state.links[process]!;
  const { batch } = reply;
  if (batch.epoch !== self.epoch) return;
  if (reply.outcome === 'unknown owner') return beginEpoch(state, process, rules);
  if (!self.unanswered.some(({ sequence }) => sequence === batch.sequence)) return;
  if (reply.outcome === 'refused') {
    link.requests = [...link.requests, { batch, age: 0 }];
    return;
  }
  self.unanswered = self.unanswered.filter(({ sequence }) => sequence !== batch.sequence);
  const age = rules.fault === 'ageFromReceipt' ? 0 : reply.age;
  self.age = Math.min(self.age, age);
  if (reply.life === state.redis.life) self.restores = false;
  for (const grant of reply.grants) takeGrant(state, grant, age, rules);
  for (const lease of reply.lost) loseLease(state, process, lease, rules);
  const isStale = reply.version < self.seenVersion && rules.fault !== 'staleReply';
  if (isStale) return;
  self.seenVersion = Math.max(self.seenVersion, reply.version);
  if (isPausing(self) && rules.fault !== 'ownPauseForgotten') return;
  // Other processes may still state earlier waiters.
  const wasStating = self.statedAge >= 0 && self.statedAge - reply.age < BOUND;
  if (wasStating && rules.fault !== 'permissionAfterLoss') return;
  const waiters = waitersOf(state, process, rules);
  const row =
    rules.fault === 'rowWithoutNames'
      ? waiters.slice(0, reply.row.length)
      : reply.row.filter((call) => waiters.includes(call));
  self.permission = { row, linger: reply.linger, age, version: reply.version };
  if (validPermission(self, rules) === undefined) self.permission = undefined;
  if (!reply.linger && rules.fault !== 'recallByMessageOnly') returnLingering(self);
}

/** The grant of a call that waits no longer needs no answer: its cancellation or its transfer takes the slot back. */
function takeGrant(state: State, grant: Lease, age: number, { fault }: Rules): void {
  if (state.calls[grant.lease]!.status === 'waiting' && (age < SAFE || fault === 'lateGrantTaken'))
    hold(state, grant.lease, grant);
}

function loseLease(state: State, process: ProcessId, lease: CallId, rules: Rules): void {
  const self = state.processes[process]!;
  self.lingering = self.lingering.filter((held) => held.lease !== lease);
  for (const call of rules.calls[process]!) if (state.calls[call]!.lease === lease) end(state, call);
}

/**
 * Redis does not know the process: its next batch states all that it has. A pause concerns others, so it is sent again.
 */
function beginEpoch(state: State, process: ProcessId, rules: Rules): void {
  const self = state.processes[process]!;
  self.epoch++;
  self.sequence = 0;
  self.age = SAFE;
  const unconfirmed = [...self.unanswered.flatMap(({ commands }) => commands), ...self.outbox];
  const waiters = waitersOf(state, process, rules);
  const isKept = (command: Command): boolean =>
    command.kind === 'acquire' ? rules.forgets && waiters.includes(command.call) : isPause(command);
  self.outbox = unconfirmed.filter(isKept);
  if (rules.forgets && waiters.length > 0) self.statedAge = 0;
  self.unanswered = [];
  self.permission = undefined;
}

export function receiveMessage(state: State, process: ProcessId, message: Message, rules: Rules): void {
  const self = state.processes[process]!;
  if (message.kind === 'withdraw') {
    if (message.version <= self.seenVersion) return;
    self.seenVersion = message.version;
    self.permission = undefined;
    returnLingering(self);
    return;
  }
  const { call, slot, epoch } = message;
  if (epoch !== self.epoch && rules.fault !== 'oldGrantTaken') return;
  removeFromRow(self, call);
  if (state.calls[call]!.status === 'waiting') takeGrant(state, { lease: call, slot }, self.age, rules);
  else if (rules.fault === 'extraSlotUsed') {
    const [next] = waitersOf(state, process, rules);
    if (next !== undefined) {
      hold(state, next, { lease: call, slot });
      enqueueCommands(self, { kind: 'cancel', call: next });
    }
  }
}
