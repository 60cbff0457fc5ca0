/** The properties that hold in every state and for every step. Each function returns the sentence that is violated. */
import { isPausing, leasesOf, waitersOf } from './process.js';
import { lifetime, type Note } from './redis.js';
import { BOUND, type Rules } from './rules.js';
import type { CallId, Place, State } from './state.js';

export function violationOfState(state: State, rules: Rules): string | undefined {
  const { redis, processes, links } = state;
  const taken = new Set<number>();
  for (const [process, self] of processes.entries()) {
    if (self.crashed) continue;
    const leases = leasesOf(state, process, rules);
    // Redis may give a forgotten slot away before its holder can state its lease, and reports the lease as lost then.
    for (const { lease, slot } of self.restores ? [] : leases) {
      if (taken.has(slot)) return 'two holders have one slot';
      taken.add(slot);
      if (redis.slots[slot] !== lease) return 'Redis gave away the slot of a living holder';
    }
    const link = links[process]!;
    const owner = redis.owners[process];
    const isQuiet =
      self.outbox.length +
        self.unanswered.length +
        link.requests.length +
        link.replies.length +
        link.messages.length ===
      0;
    if (!isQuiet || link.late !== undefined || owner === undefined || owner.epoch !== self.epoch) continue;
    const waiters = waitersOf(state, process, rules);
    const known = new Set([...waiters, ...leases.map(({ lease }) => lease)]);
    const places = redis.queue.filter(({ call }) => rules.owners[call] === process).map(({ call }) => call);
    if (redis.slots.some((lease) => rules.owners[lease] === process && !known.has(lease)))
      return 'Redis keeps a lease that its process does not know';
    if (places.some((call) => !waiters.includes(call))) return 'Redis keeps the place of a call that does not wait';
    if (waiters.some((call) => !places.includes(call) && !redis.slots.includes(call))) return 'Redis forgot a waiter';
  }
  const old = redis.queue.filter(({ call }) => state.calls[call]!.isOld);
  if (old.some(({ call }, index) => state.calls[call]!.ticket < state.calls[old[index - 1]?.call ?? call]!.ticket))
    return 'a waiter lost its place by a loss of all data';
  const leases = redis.slots.filter((lease) => lease >= 0);
  if (new Set(leases).size < leases.length) return 'Redis gave two slots to one lease';
  return undefined;
}

export function violationOfStep(before: State, notes: readonly Note[], rules: Rules): string | undefined {
  for (const note of notes) {
    if (note.kind === 'granted') {
      if (note.paused || note.active > note.limit) return 'Redis granted against a pause or a limit';
      continue;
    }
    const { redis, processes, calls } = before;
    const { process, call } = note;
    if (isPausing(processes[process]!)) return 'a process acted against its own pause';
    const place = redis.queue.findIndex((waiting) => waiting.call === call);
    const end = note.kind === 'lingerUsed' ? redis.queue.length : Math.max(0, place);
    const passed = redis.queue.slice(0, end).filter((waiting) => calls[waiting.call]!.status === 'waiting');
    const own = calls.findIndex(
      ({ status }, other) => status === 'waiting' && rules.owners[other] === process && other < call,
    );
    if (own >= 0 && !redis.slots.includes(own)) return 'a process passed over its own waiter';
    if (note.kind === 'handedOn' && passed.some((waiting) => !mayPass(call, waiting, before)))
      return 'a process handed on past an earlier waiter';
    if (passed.some(({ age }) => age >= BOUND))
      return 'a lingering slot was used past the bound while a waiter stood in Redis';
    if (redis.pausedAge >= BOUND) return 'a process ignored a pause past the bound';
    const active = redis.slots.filter((lease) => lease >= 0).length;
    if (redis.loweredAge >= BOUND && active > redis.limit) return 'a process ignored a lower limit past the bound';
    if (processes[process]!.permission!.version < processes[process]!.seenVersion)
      return 'a process acted against a withdrawal that it had received';
  }
  return undefined;
}

/**
 * Whether a call may be served before a waiter. After a loss of all data, a waiter returns to its place. Until the
 * bound, calls that arrived after the loss may pass this waiter. If the waiter returns late, every call may pass it.
 */
function mayPass(call: CallId, { call: waiting, age, isLate }: Place, { calls }: State): boolean {
  return calls[waiting]!.isOld && age < BOUND && (isLate || !calls[call]!.isOld);
}

/** Whether all that lives was served and all slots are free, or linger, or are free once another batch arrives. */
export function isSettled(state: State, rules: Rules): boolean {
  const { redis, processes, calls, links } = state;
  const isGone = (process: number): boolean => (redis.owners[process]?.age ?? Infinity) >= lifetime(state, rules);
  return (
    calls.every(({ status }) => status === 'idle' || status === 'ended') &&
    redis.queue.every(({ call }) => isGone(rules.owners[call]!)) &&
    redis.slots.every(
      (lease) =>
        lease < 0 ||
        isGone(rules.owners[lease]!) ||
        processes[rules.owners[lease]!]!.lingering.some((held) => held.lease === lease),
    ) &&
    links.every(({ requests }) => requests.length === 0)
  );
}
