/** The texts of the development aids. */
import type { Hold } from './jobs.js';

/** The most places that a message lists. */
const MAX_PLACES = 5;

/** The innermost frame of a call. */
export function placeOf(frames: readonly string[]): string {
  return frames[0] ?? 'an unknown place';
}

/** @param holds The permits of the jobs that the call is part of. */
export function nestedMessage(frames: readonly string[], slots: number, holds: readonly Hold[]): string {
  const places = [...new Set(holds.map((hold) => placeOf(hold.frames)))];
  const more = places.length > MAX_PLACES ? ` and ${places.length - MAX_PLACES} more places` : '';
  return (
    `a job waits for itself: the call at ${placeOf(frames)} needs ${count(slots, 'slot')} of ` +
    `${holds[0]?.gate.label ?? 'a gate'}, but its own job holds ${holds.length === 1 ? 'a permit' : 'the permits'} of ` +
    `the ${holds.length === 1 ? 'call' : 'calls'} at ${places.slice(0, MAX_PLACES).join(', at ')}${more}. ` +
    'Do the inner work without a second permit, or give it a throttle of its own. ' +
    'If the job does not wait for this call, start the call outside of the job with AsyncLocalStorage.snapshot(), ' +
    "or allow it with configureDevelopment({ nested: 'warn' })"
  );
}

export function leakMessage({ frames, gate, slots }: Hold): string {
  const effect = gate.isLimited
    ? `${slots === 1 ? 'its slot stays' : `its ${slots} slots stay`} occupied`
    : 'it counts as running, and idle() never resolves';
  return (
    `a permit of ${gate.label} was garbage collected without a release, so ${effect}. It was acquired at ` +
    `${placeOf(frames)}. Release it in a finally block, or use run() or \`using\``
  );
}

/** Lines of a stack, for the detail of a warning. */
export function stackText(frames: readonly string[]): string {
  return frames.map((frame) => `    at ${frame}`).join('\n');
}

function count(number: number, noun: string): string {
  return `${number} ${noun}${number === 1 ? '' : 's'}`;
}
