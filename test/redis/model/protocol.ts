/**
 * The protocol between Redis and the processes of a fleet, as a model: one gate without a rate, two processes, a few
 * calls, one or two slots. `redis.ts` defines how Redis applies a batch, `process.ts` how a process acts, and this file
 * how both move on: commands and replies travel in order on one connection, messages on another, and faults happen.
 * The implementation has to follow these decisions.
 *
 * Order of commands
 * - A process numbers its batches. Redis keeps, for each owner, an epoch, the number of the next batch, and an expiry.
 * - Redis refuses a batch whose predecessor is missing and changes nothing. The process sends the refused batch again,
 *   with its old number, after each error and after each refusal. So commands take effect in the order of their calls,
 *   also on a pool of connections and after NOSCRIPT.
 * - Redis applies no batch twice. The reply to a duplicate repeats the grants of the calls that the duplicate names.
 * - The process sends all unanswered batches again, in order, after its connection broke.
 * - Redis answers "unknown owner" to a batch of an owner that it does not know, or of an earlier epoch, and changes
 *   nothing. The process then begins an epoch: it forgets all unconfirmed commands but pauses and limits, and sends
 *   batch 0 of the next epoch, which states every lease that it surely holds and every call that waits.
 * - Batch 0 of a later epoch first removes all that Redis knows of earlier epochs of this owner.
 * - A process without leases, waiters and unanswered batches begins an epoch by itself when its last contact is older
 *   than the safe share of `ttl`. This saves the round trip of an "unknown owner".
 * - The model assumes that the server reads the rest of a broken connection within one `ttl`.
 *
 * Leases and time
 * - Leases and waiters have no expiry of their own. They live as long as their owner, and each batch that Redis applies
 *   or recognises as a duplicate renews the owner. A refused batch renews nothing.
 * - A process counts the age of its leases from the sending of the latest batch that Redis is known to have applied,
 *   never from the receipt of a reply. At the safe share of `ttl` all its permits are lost. It gives them back, in case
 *   Redis still has them.
 * - A process takes no grant from a reply or a message while its leases count as lost. The next renewal repeats the
 *   grant, or puts the waiter back into the queue.
 * - The message of a grant carries the epoch of its owner. The process ignores grants of earlier epochs.
 * - A renewal lists all leases and waiters. It follows the other commands of its batch. Redis repeats lost grants,
 *   takes up a lease that it does not know if its slot is free, and reports the lease as lost otherwise.
 * - A waiter that lapsed with its owner comes back at the tail of the queue. Its old place would be in front of waiters
 *   that another process may already serve by itself.
 *
 * Handing on
 * - Each reply to an applied batch may permit to hand on. It names the row: the waiters of this process that stand in a
 *   row at the head of the queue after the batch. On the wire, a count with the ticket of the last of them is enough.
 *   A count alone is not: the message of a grant may overtake the reply, and the count would then reach too far.
 * - The row is empty during a pause, and while there are more leases than the smallest limit of the processes involved.
 * - A process that receives a reply keeps of the row what still waits. A grant, a hand-over and a cancellation remove
 *   their waiter from the row, so the count falls with each of them.
 * - On release, the first waiter of the row gets the lease at once, if the permission is younger than the bound and not
 *   withdrawn, and if the lease is surely alive. The lease keeps its number and its slot. The process sends `transfer`.
 * - The age of a permission counts from the sending of the batch whose reply brought it.
 * - For Redis, `transfer` removes the waiter from the queue. If Redis granted the waiter a slot meanwhile, it takes
 *   this extra slot back at once and grants it to the next in line. Redis never makes or revives the transferred lease.
 * - So the process ignores the message of a grant for a call that no longer waits. The transfer, or the cancellation,
 *   that is on its way already gives that slot back, also when the message was lost.
 *
 * Withdrawals
 * - Redis counts the withdrawals of permissions in `version`. A pause, a lower limit, and a recall of lingering slots
 *   add one, and Redis publishes the new version to the other owners. Each reply carries the version after its batch.
 * - A process that receives a higher version drops its permission and returns its lingering slots. It takes no
 *   permission from a reply with a lower version than it has seen.
 * - A process that pauses drops its own permission at once, and takes none until Redis has confirmed the pause.
 * - A slot that a process handed on before the message counts as granted before the pause. A lost message ends with the
 *   bound.
 *
 * Lingering slots
 * - A reply permits slots to linger while no other process waits, the gate is open and the limit is kept. Redis records
 *   in the owner that it gave this permission.
 * - A released slot lingers only if its process has no waiter. Redis is not informed: the lease stays as it is, and the
 *   next call of the process uses it under the old number of the lease. The permission must be young and not withdrawn,
 *   as for handing on. Otherwise the process returns the lingering slots ahead of its next acquire.
 * - When a waiter of another process is left in the queue, Redis withdraws the permission of each owner on record,
 *   once. The process answers a recall with a release of each lingering lease, and with nothing if it has none. A slot
 *   in use is returned when it is released.
 * - A reply without the permission has the effect of a recall, so the next renewal makes up for a lost message.
 * - In the model a lingering slot has no deadline of its own, so that recalls alone must free it.
 *
 * Loss of all data, and changes of the clock of the server
 * - A process states its leases and the waiters that have a ticket in batch 0 of its next epoch. A ticket of an earlier
 *   life of Redis keeps its place in the queue.
 * - Before that, Redis may give the slot of a holder to another call. The reply to batch 0 reports the lease as lost.
 * - A process that has stated waiters takes no permission for the bound: other processes may still state earlier
 *   waiters. A waiter that returns later voids all permissions, and its place counts from the bound on.
 * - A process sends batch 0 again with the leases that messages have brought since: batch 0 creates the owner again.
 * - A process whose connection was lost lists its leases and waiters at once.
 * - If the clock is set forwards by more than `ttl`, the state expires. Connections and batches stay in flight.
 * - If the clock is set back, time goes on from the latest batch. The time in between is lost until a process confirms
 *   it. Owners live longer by that time, since their renewals were recorded too early.
 *
 * Time passes in ticks: `TTL`, `SAFE` and `BOUND` in `rules.ts` are counts of ticks. A tick that passes while something
 * is on its way counts as slow, and a scenario limits the number of slow ticks as it limits the faults.
 */
import { type Note, applyBatch, redisTick, withdrawAll } from './redis.js';
import * as processes from './process.js';
import { type Disaster, disastersOf, strike } from './disasters.js';
import { BOUND, type Rules, SAFE, TTL } from './rules.js';
import { copyState, type Budget, type CallId, type ProcessId, type Request, type State } from './state.js';

export type ActionKind =
  | 'Redis applies a batch of'
  | 'Redis applies a late duplicate of'
  | 'a reply reaches'
  | 'a message reaches'
  | 'a holder releases in'
  | 'time passes'
  | 'time passes before a message arrives'
  | 'a call begins in'
  | 'a waiter is cancelled in'
  | 'a message is lost on its way to'
  | 'Redis refuses unread a batch of'
  | 'the connection breaks, and all in flight is lost, of'
  | 'the connection breaks, and a batch stays in flight, of'
  | 'a crash ends'
  | 'a call of pause in'
  | 'an administrator pauses'
  | 'an administrator lowers the limit'
  | Disaster;

export interface Action {
  readonly kind: ActionKind;
  readonly process: ProcessId;
  readonly call: CallId;
}

export interface Step {
  readonly state: State;
  readonly notes: readonly Note[];
}

/**
 * All possible actions. The first of them needs no fault and no new call, so a chain of first actions is a fair
 * schedule.
 */
export function actionsOf(state: State, rules: Rules): Action[] {
  const actions: Action[] = [];
  const { budget } = state;
  const add = (kind: ActionKind, process: ProcessId, call: CallId = -1): void => {
    actions.push({ kind, process, call });
  };
  for (const [process, link] of state.links.entries()) {
    if (link.requests.length > 0) add('Redis applies a batch of', process);
    if (link.late !== undefined) add('Redis applies a late duplicate of', process);
    if (link.replies.length > 0) add('a reply reaches', process);
    if (link.messages.length > 0) add('a message reaches', process);
  }
  for (const [call, { status }] of state.calls.entries())
    if (status === 'holding') add('a holder releases in', rules.owners[call]!, call);
  if (isStill(state)) add('time passes', -1);
  else if (budget.slow > 0) add('time passes before a message arrives', -1);
  for (const [process, { crashed, unanswered }] of state.processes.entries()) {
    if (crashed) continue;
    const link = state.links[process]!;
    const next = state.calls.findIndex(({ status }, call) => status === 'idle' && rules.owners[call] === process);
    if (next >= 0) add('a call begins in', process, next);
    if (budget.cancel > 0)
      for (const call of processes.waitersOf(state, process, rules)) add('a waiter is cancelled in', process, call);
    if (budget.total === 0) continue;
    if (budget.loseMessage > 0 && link.messages.length > 0) add('a message is lost on its way to', process);
    if (budget.bounce > 0 && link.requests.length > 0) add('Redis refuses unread a batch of', process);
    if (budget.break > 0 && unanswered.length > 0) {
      add('the connection breaks, and all in flight is lost, of', process);
      if (link.requests.length > 0) add('the connection breaks, and a batch stays in flight, of', process);
    }
    if (budget.ownPause > 0) add('a call of pause in', process);
    if (budget.crash > 0) add('a crash ends', process);
  }
  if (budget.total > 0 && budget.pause > 0) add('an administrator pauses', -1);
  if (budget.total > 0 && budget.lower > 0) add('an administrator lowers the limit', -1);
  for (const disaster of disastersOf(state)) add(disaster, -1);
  return actions;
}

export function take(before: State, { kind, process, call }: Action, rules: Rules): Step {
  const state = copyState(before, process);
  const notes: Note[] = [];
  const { redis } = state;
  const self = state.processes[process]!;
  const link = state.links[process]!;
  const spend = SPENDS[kind];
  if (spend !== undefined) state.budget = spent(state.budget, spend);
  switch (kind) {
    case 'Redis applies a batch of': {
      const [request, ...rest] = link.requests as [Request];
      link.requests = rest;
      const reply = applyBatch(state, process, request, rules, notes);
      if (!self.crashed) link.replies = [...link.replies, reply];
      break;
    }
    case 'Redis applies a late duplicate of': {
      const { late } = link;
      link.late = undefined;
      applyBatch(state, process, late!, rules, notes);
      break;
    }
    case 'a reply reaches': {
      const [reply, ...rest] = link.replies;
      link.replies = rest;
      processes.receiveReply(state, process, reply!, rules);
      break;
    }
    case 'a message reaches': {
      const [message, ...rest] = link.messages;
      link.messages = rest;
      processes.receiveMessage(state, process, message!, rules);
      break;
    }
    case 'a holder releases in':
      processes.release(state, process, call, rules, notes);
      break;
    case 'time passes':
      tick(state, rules);
      break;
    case 'time passes before a message arrives':
      tick(state, rules);
      break;
    case 'a call begins in':
      processes.acquire(state, process, call, rules, notes);
      break;
    case 'a waiter is cancelled in':
      processes.cancel(state, process, call);
      break;
    case 'a message is lost on its way to':
      link.messages = link.messages.slice(1);
      break;
    case 'Redis refuses unread a batch of': {
      const [request, ...rest] = link.requests as [Request];
      link.requests = rest;
      const { version, life } = redis;
      const { batch, age } = request;
      link.replies = [
        ...link.replies,
        { outcome: 'refused', batch, age, version, grants: [], lost: [], row: [], linger: false, life },
      ];
      break;
    }
    case 'the connection breaks, and all in flight is lost, of':
    case 'the connection breaks, and a batch stays in flight, of':
      if (kind.includes('stays')) link.late = link.requests[0];
      link.replies = [];
      link.requests = self.unanswered.map((batch) => ({ batch, age: 0 }));
      break;
    case 'a crash ends':
      crash(state, process, rules);
      break;
    case 'a call of pause in':
      processes.pause(self);
      break;
    case 'an administrator pauses':
      redis.pausedAge = 0;
      withdrawAll(state);
      break;
    case 'an administrator lowers the limit':
      redis.limit--;
      redis.loweredAge = 0;
      withdrawAll(state);
      break;
    default:
      strike(state, kind, rules);
  }
  for (let index = 0; index < state.processes.length; index++)
    if ((process < 0 || process === index) && !state.processes[index]!.crashed) processes.send(state, index, rules);
  return { state, notes };
}

/** Nothing is on its way: a network without faults is faster than a tick. */
function isStill(state: State): boolean {
  return state.links.every(
    ({ requests, replies, messages, late }) =>
      requests.length + replies.length + messages.length === 0 && late === undefined,
  );
}

/** The part of the budget that an action spends. */
const SPENDS: Readonly<Partial<Record<ActionKind, keyof Budget>>> = {
  'time passes before a message arrives': 'slow',
  'a waiter is cancelled in': 'cancel',
  'a message is lost on its way to': 'loseMessage',
  'Redis refuses unread a batch of': 'bounce',
  'the connection breaks, and all in flight is lost, of': 'break',
  'the connection breaks, and a batch stays in flight, of': 'break',
  'a crash ends': 'crash',
  'a call of pause in': 'ownPause',
  'an administrator pauses': 'pause',
  'an administrator lowers the limit': 'lower',
  'Redis loses all data and all connections': 'lose',
  'the clock of the server is set forwards by more than ttl': 'forward',
  'the clock of the server is set back': 'back',
};

function spent(budget: Budget, part: keyof Budget): Budget {
  const total = part === 'slow' || part === 'cancel' ? budget.total : budget.total - 1;
  return { ...budget, [part]: budget[part] - 1, total };
}

function tick(state: State, rules: Rules): void {
  redisTick(state, rules);
  const { redis } = state;
  if (rules.linger || rules.forgets)
    redis.queue = redis.queue.map(({ call, age, isLate }) => ({ call, age: Math.min(BOUND, age + 1), isLate }));
  for (const [process, self] of state.processes.entries()) {
    if (!self.crashed) processes.processTick(state, process, rules);
    const link = state.links[process]!;
    link.requests = link.requests.map(older);
    link.replies = link.replies.map(older);
    // The server reads the rest of a broken connection within a ttl.
    link.late = link.late !== undefined && link.late.age + 1 < TTL ? older(link.late) : undefined;
  }
}

function older<T extends { readonly age: number }>(sent: T): T {
  return { ...sent, age: Math.min(SAFE, sent.age + 1) };
}

function crash(state: State, process: ProcessId, rules: Rules): void {
  const { requests, late } = state.links[process]!;
  state.links[process] = { requests, replies: [], messages: [], late };
  state.processes[process] = { ...processes.newProcess(), crashed: true };
  for (const [call, owner] of rules.owners.entries())
    if (owner === process) state.calls[call] = { ...processes.NO_LEASE, status: 'ended' };
}
