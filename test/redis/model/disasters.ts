/** Redis forgets its state, or its clock changes. */
import { leasesOf, waitersOf } from './process.js';
import { PAUSE, type Rules } from './rules.js';
import type { Command, ProcessId, Redis, State } from './state.js';

export type Disaster =
  | 'Redis loses all data and all connections'
  | 'the clock of the server is set forwards by more than ttl'
  | 'the clock of the server is set back'
  | 'a process confirms the lost time';

export function disastersOf({ budget, redis }: State): Disaster[] {
  const possible: Disaster[] = [];
  if (redis.lag > 0) possible.push('a process confirms the lost time');
  if (budget.total === 0) return possible;
  if (budget.lose > 0) possible.push('Redis loses all data and all connections');
  if (budget.forward > 0) possible.push('the clock of the server is set forwards by more than ttl');
  if (budget.back > 0 && redis.silence > 0) possible.push('the clock of the server is set back');
  return possible;
}

export function strike(state: State, disaster: Disaster, rules: Rules): void {
  const { redis } = state;
  switch (disaster) {
    case 'Redis loses all data and all connections':
      forget(state);
      for (const [index, process] of state.processes.entries()) {
        process.listsNext = true;
        if (rules.fault !== 'firstBatchUnchanged') restateFirst(state, index, rules);
        const requests = process.unanswered.map((batch) => ({ batch, age: 0 }));
        state.links[index] = { requests, replies: [], messages: [], late: undefined };
      }
      return;
    case 'the clock of the server is set forwards by more than ttl':
      forget(state);
      return;
    case 'the clock of the server is set back':
      // The clock goes back to the instant of the latest batch. Redis has recorded nothing since that batch.
      advance(redis, -redis.silence);
      redis.lag = redis.silence;
      redis.silence = 0;
      return;
    case 'a process confirms the lost time':
      redis.grace = redis.lag;
      redis.lag = 0;
      advance(redis, redis.grace);
  }
}

/** Batch 0 creates the owner again, so it states the leases that messages have brought since it was sent. */
function restateFirst(state: State, process: ProcessId, rules: Rules): void {
  const self = state.processes[process]!;
  const waiters = waitersOf(state, process, rules);
  const leases = leasesOf(state, process, rules);
  const isNeeded = (command: Command): boolean => command.kind !== 'acquire' || waiters.includes(command.call);
  const index = self.unanswered.findIndex(({ sequence }) => sequence === 0);
  const first = self.unanswered[index];
  if (first === undefined) return;
  const commands: Command[] = [{ kind: 'renew', leases, calls: [] }, ...first.commands.filter(isNeeded)];
  self.unanswered = self.unanswered.with(index, { ...first, commands });
}

/** The state of Redis expires or is lost. Versions are instants, so a later life has a higher one. */
function forget(state: State): void {
  const { redis } = state;
  redis.owners = redis.owners.map(() => undefined);
  redis.queue = [];
  redis.slots = redis.slots.map(() => -1);
  redis.pausedAge = -1;
  redis.version++;
  redis.life++;
  redis.lostAge = 0;
  for (const process of state.processes) process.restores = true;
  for (const [index, call] of state.calls.entries()) if (call.ticket > 0) state.calls[index] = { ...call, isOld: true };
}

/** Changes the age of all that Redis has recorded. */
function advance(redis: Redis, ticks: number): void {
  redis.owners = redis.owners.map((owner) => owner && { ...owner, age: Math.max(0, owner.age + ticks) });
  if (redis.pausedAge < 0) return;
  redis.pausedAge = Math.max(0, redis.pausedAge + ticks);
  if (redis.pausedAge >= PAUSE) redis.pausedAge = -1;
}
