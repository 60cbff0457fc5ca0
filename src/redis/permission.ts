/**
 * The permission of the latest reply to act without a round trip. With it, a process hands a released slot on to its
 * own waiters at the head of the queue, and lets released slots linger. The permission ends with a withdrawal and after
 * a bound in time, so a process that receives no messages falls back to requests. Instants are in seconds of the
 * process.
 */
import type { Reply } from './protocol.js';

/** Seconds for which a permission is valid, and the share of `ttl` that limits this time. */
const LONGEST = 1;
const SHARE_OF_TTL = 1 / 3;

export class Permission {
  readonly #span: number;
  #upTo = 0;
  #linger = false;
  /** The sending of the batch whose reply gave the permission. */
  #givenAt = -Infinity;
  /** The highest version that the process has received. */
  #version = 0;
  /** Permissions of batches that were sent before this instant are not taken. */
  #notBefore = -Infinity;
  /** The number of the process's own changes that Redis has not confirmed. */
  #blocks = 0;

  constructor(ttl: number) {
    this.#span = Math.min(LONGEST, ttl * SHARE_OF_TTL);
  }

  /** Takes the permission of a reply, unless the reply is older than a withdrawal. */
  take({ version, upTo, linger }: Reply, sentAt: number): void {
    if (version < this.#version) return;
    if (version > this.#version) this.drop();
    this.#version = version;
    if (this.#blocks > 0 || sentAt < this.#givenAt || sentAt < this.#notBefore) return;
    this.#upTo = upTo;
    this.#linger = linger;
    this.#givenAt = sentAt;
  }

  /** Returns whether the withdrawal is new. */
  withdraw(version: number): boolean {
    if (version <= this.#version) return false;
    this.#version = version;
    this.drop();
    return true;
  }

  /** Drops the permission, for instance at the start of an epoch. */
  drop(): void {
    this.#upTo = 0;
    this.#linger = false;
  }

  /**
   * Drops the permission, and takes none for a second: Redis has lost its data, and other processes may still state
   * earlier waiters.
   */
  suspend(now: number): void {
    this.drop();
    this.#notBefore = now + LONGEST;
  }

  /** Drops the permission, and takes none until the returned function is called: until Redis confirms a change. */
  block(): () => void {
    this.drop();
    this.#blocks++;
    let blocked = true;
    return () => {
      if (blocked) this.#blocks--;
      blocked = false;
    };
  }

  /** The ticket up to which the waiters of this process may receive released slots; 0 for none. */
  ticketLimit(now: number): number {
    return this.#upTo > 0 && this.#isValid(now) ? this.#upTo : 0;
  }

  /** Whether released slots may linger. */
  allowsLinger(now: number): boolean {
    return this.#linger && this.#isValid(now);
  }

  #isValid(now: number): boolean {
    return now < this.#givenAt + this.#span;
  }
}
