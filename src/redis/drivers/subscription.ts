/** Keeps one subscription alive: a failed, lost or silent subscription is replaced. */
import { scheduleInBackground } from '../../core/clock.js';
import { isRefusal } from '../errors.js';
import { afterPendingInput, ignore, type Listening, type Receiver } from './driver.js';

/** One attempt to subscribe. */
export interface Subscription {
  /** Resolves when the server has confirmed the subscription. */
  readonly started: Promise<unknown>;
  readonly end: () => void;
  /** Resolves when the server replies on the connection of the subscription. */
  readonly ping?: () => Promise<unknown>;
  /** Whether `end` cannot end the subscription. Then it is never replaced while it may still start or deliver. */
  readonly permanent?: boolean;
}

/**
 * Starts a subscription. It calls `onLost` when the subscription has ended or may have missed messages. `key`: in a
 * cluster, the node that serves this key is preferred. After a failed attempt, the next one has no preference.
 */
export type Subscribe = (onLost: () => void, key: string | undefined) => Subscription | Promise<Subscription>;

/** Milliseconds until the next attempt: the first pause, the longest pause, and the largest random addition. */
const FIRST_PAUSE = 50;
const LONGEST_PAUSE = 1_000;
const JITTER = 100;
/** Milliseconds until the next attempt after Redis has refused the permission, in case it is granted meanwhile. */
const REFUSED_PAUSE = 30_000;
/** Milliseconds for the start of a subscription: at first, and at most. Each failed attempt doubles them. */
const FIRST_PATIENCE = 5_000;
const LONGEST_PATIENCE = 60_000;
/** Milliseconds between two checks of the connection. */
const PING_INTERVAL = 5_000;
/** Milliseconds between two renewals. */
const RENEWAL_INTERVAL = 1_000;

/** Subscribes, and subscribes again whenever a subscription fails, is lost or does not reply to a ping. */
export function keepSubscribed(subscribe: Subscribe, receiver: Receiver): Listening {
  let failures = 0;
  let stopped = false;
  let startedAt = -Infinity;
  /** Ends the present attempt. The next one follows after `pause` milliseconds. */
  let replace: (pause?: number) => void = ignore;
  /** Ends the pause between two attempts. */
  let cancelPause: (() => void) | undefined;
  let permanent = false;

  const start = async (): Promise<void> => {
    let lost = false;
    let confirmed = false;
    let end = ignore;
    let cancelCheck = ignore;
    cancelPause = undefined;
    const lose = (pause?: number): void => {
      if (lost) return;
      lost = true;
      cancelCheck();
      end();
      if (stopped) return;
      // Without a given pause, the attempt has failed.
      const backoff = (): number => Math.min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** failures++) + Math.random() * JITTER;
      cancelPause = scheduleInBackground(pause ?? backoff(), () => void start());
    };
    const onLost = (): void => lose();
    replace = lose;
    startedAt = performance.now();
    try {
      const subscription = await subscribe(onLost, failures % 2 === 0 ? receiver.preferredKey() : undefined);
      ({ end, permanent = false } = subscription);
      if (lost) end();
      if (!permanent && !lost) {
        const patience = Math.min(LONGEST_PATIENCE, FIRST_PATIENCE * 2 ** Math.min(failures, 10));
        cancelCheck = scheduleInBackground(patience, () => afterPendingInput(() => void (confirmed || lose())));
      }
      await subscription.started;
      confirmed = true;
      cancelCheck();
      if (lost) return;
      failures = 0;
      const { ping } = subscription;
      if (ping !== undefined) cancelCheck = checkRegularly(ping, receiver, onLost);
      receiver.onStart();
    } catch (error) {
      if (lost) return;
      receiver.onFailure(error);
      lose(isRefusal(error) ? REFUSED_PAUSE : undefined);
    }
  };
  void start();
  return {
    renew() {
      if (stopped || permanent || performance.now() < startedAt + RENEWAL_INTERVAL) return;
      if (cancelPause === undefined) return replace(0);
      cancelPause();
      void start();
    },
    stop() {
      stopped = true;
      cancelPause?.();
      replace();
    },
  };
}

/**
 * Pings the connection of a subscription, while messages are expected. A connection that carries no packet for years
 * looks alive to the platform.
 *
 * @param onSilence Called once, when a reply is missing.
 * @returns A function that ends the checks.
 */
function checkRegularly(ping: () => Promise<unknown>, receiver: Receiver, onSilence: () => void): () => void {
  let cancel = ignore;
  let ended = false;
  const wait = (): void => {
    cancel = scheduleInBackground(PING_INTERVAL, check);
  };
  const check = (): void => {
    if (!receiver.expectsMessages()) return wait();
    let replied = false;
    const onReply = (): void => {
      if (replied || ended) return;
      replied = true;
      cancel();
      wait();
    };
    // An error proves that the client is alive, too. If the connection is lost, the client reports it by itself.
    ping().then(onReply, onReply);
    cancel = scheduleInBackground(receiver.replyWithin() * 1_000, () =>
      afterPendingInput(() => {
        if (!replied && !ended) onSilence();
      }),
    );
  };
  wait();
  return () => {
    ended = true;
    cancel();
  };
}
