/**
 * The commands with which a process states its leases and its waiters. Redis repeats the grants whose messages were
 * lost, and creates what it has lost itself. The functions are pure: they read the lists and send nothing.
 */
import type { Call, PendingCalls } from './calls.js';
import type { RedisGrant } from './lease.js';
import { type Command, FOREVER } from './protocol.js';

/** The most waiters in one list. A larger batch would delay other clients. */
const WAITERS_PER_BATCH = 500;

/** States all leases, then all calls in order, for an epoch that begins. */
export function stateAll(grants: readonly RedisGrant[], calls: readonly Call[]): Command[] {
  const commands = stateLeases(grants);
  for (const call of calls) {
    const { serial, charge: cost, ticket, timeout } = call;
    if (ticket > 0 && ticket < FOREVER) commands.push({ kind: 'wait', serial, cost, ticket });
    else commands.push({ kind: 'acquire', serial, cost, timeout });
  }
  return commands;
}

/** Completes the commands of a first batch that is sent again: messages may have brought leases since. */
export function repeatFirst(
  commands: readonly Command[],
  grants: readonly RedisGrant[],
  pending: Pick<PendingCalls, 'get'>,
): Command[] {
  const kept = withoutEnded(commands, pending);
  return [
    ...kept.filter(({ kind }) => kind === 'replace'),
    ...stateLeases(grants),
    ...kept.filter(({ kind }) => kind !== 'replace' && kind !== 'hold'),
  ];
}

/** Leaves out the requests of calls that have ended: such a request must not be sent again. */
export function withoutEnded(commands: readonly Command[], pending: Pick<PendingCalls, 'get'>): Command[] {
  return commands.filter((command) => command.kind !== 'acquire' || pending.get(command.serial) !== undefined);
}

/** Lists the waiters, in parts of one batch each. Without a waiter, there is one empty part. */
export function listWaiters(calls: readonly Call[]): Command[][] {
  const commands: Command[] = [];
  for (const { serial, charge: cost, ticket } of calls)
    if (ticket > 0) commands.push({ kind: 'wait', serial, cost, ticket });
  const parts: Command[][] = [];
  for (let from = 0; from === 0 || from < commands.length; from += WAITERS_PER_BATCH)
    parts.push(commands.slice(from, from + WAITERS_PER_BATCH));
  return parts;
}

const stateLeases = (grants: readonly RedisGrant[]): Command[] =>
  grants.map(({ serial, item }) => ({ kind: 'hold', serial, item }));
