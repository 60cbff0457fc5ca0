/** A manual clock that moves from timer to timer while real requests are answered in between. */
import { setTimeout as sleep } from 'node:timers/promises';
import type { Throttle } from 'headgate';
import { ManualClock } from 'headgate/testing';

export class SteppingClock extends ManualClock {
  readonly #due = new Set<{ readonly at: number }>();

  override schedule(seconds: number, callback: () => void): () => void {
    const timer = { at: this.now() + seconds };
    this.#due.add(timer);
    const cancel = super.schedule(seconds, () => {
      this.#due.delete(timer);
      callback();
    });
    return () => {
      this.#due.delete(timer);
      cancel();
    };
  }

  /**
   * Waits for `result`. The clock stands still while `throttle` has a permit out, and else moves to the next timer. So
   * every request arrives at the instant of its grant, however busy the machine is.
   */
  async drive<T>(throttle: Pick<Throttle, 'active'>, result: Promise<T>): Promise<T> {
    const state = { isDone: false };
    const done = (): void => void (state.isDone = true);
    result.then(done, done);
    while (!state.isDone) {
      await sleep(1);
      if (throttle.active > 0 || this.#due.size === 0) continue;
      const next = Math.min(...[...this.#due].map(({ at }) => at));
      await this.advance(Math.max(0, next - this.now()));
    }
    return result;
  }
}
