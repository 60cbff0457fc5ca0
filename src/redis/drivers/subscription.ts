/** Keeps one subscription alive: a failed or lost subscription is replaced after a pause. */
import { ignore } from './driver.js';

/** One attempt to subscribe. */
export interface Subscription {
  /** Resolves when the server has confirmed the subscription. */
  readonly started: Promise<unknown>;
  readonly end: () => void;
}

/** Starts a subscription. It calls `onLost` when the subscription has ended or may have missed messages. */
export type Subscribe = (onLost: () => void) => Subscription | Promise<Subscription>;

/** Milliseconds until the next attempt: the first pause, the longest pause, and the largest random addition. */
const FIRST_PAUSE = 50;
const LONGEST_PAUSE = 1_000;
const JITTER = 100;

/**
 * Subscribes, and subscribes again whenever a subscription fails or is lost.
 *
 * @param onGap Called each time that a subscription has started.
 * @returns A function that ends the subscription for good.
 */
export function keepSubscribed(subscribe: Subscribe, onGap: () => void): () => void {
  let failures = 0;
  let stopped = false;
  let stop = ignore;
  const start = async (): Promise<void> => {
    let lost = false;
    let end = ignore;
    const onLost = (): void => {
      if (lost) return;
      lost = true;
      end();
      if (stopped) return;
      const timer: unknown = setTimeout(
        () => void start(),
        Math.min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** failures++) + Math.random() * JITTER,
      );
      // This timer must not keep the process alive.
      (timer as { unref?(): void }).unref?.();
    };
    stop = onLost;
    if (stopped) return;
    try {
      const subscription = await subscribe(onLost);
      ({ end } = subscription);
      if (lost) end();
      await subscription.started;
      if (lost) return;
      failures = 0;
      onGap();
    } catch {
      onLost();
    }
  };
  void start();
  return () => {
    stopped = true;
    stop();
  };
}
