/** The calls of the script for one throttle object: the settings that every batch carries, and the wake-up time. */
import type { Batch } from './batch.js';
import { ignore } from './drivers/driver.js';
import { backendError, type Labelled } from './options.js';
import { decodeReply, encodeBatch, Flag, micros, type Reply } from './protocol.js';
import { SAFE_SHARE } from './renewal.js';
import type { Script } from './script.js';
import type { SharedConnection } from './shared-connection.js';
import type { SteadyClock } from './steady-clock.js';
import { Wakeup } from './wakeup.js';

/** The settings that all calls of one throttle object share. */
export interface WireSettings {
  /** The throttle object, for messages. */
  readonly face: Labelled;
  /** The keys in Redis, the state first. */
  readonly keys: string[];
  readonly ttl: number;
  readonly maxQueue: number;
  /** Seconds within which Redis must reply. */
  readonly commandTimeout: number;
  /** The clock of a test, in seconds. */
  readonly serverTime: (() => number) | undefined;
}

/** The limits of one throttle object. */
export interface WireLimits {
  /** The number of jobs at a time; `0` and `Infinity` mean any number. */
  readonly concurrency: number;
  /** The rates, for the script. */
  encode(): string;
}

export class Wire {
  readonly connection: SharedConnection;
  readonly wakeup: Wakeup = new Wakeup();
  readonly #settings: WireSettings;
  readonly #script: Script;
  /** The limits of this throttle object. */
  readonly #limits: WireLimits;
  readonly #clock: SteadyClock;
  #rate = '';
  /** The latest batch whose reply has set the wake-up time. */
  #latest: Batch | undefined;
  /** Whether Redis has applied the present rates. */
  #isConfigured = false;

  constructor(
    settings: WireSettings,
    connection: SharedConnection,
    script: Script,
    limits: WireLimits,
    clock: SteadyClock,
  ) {
    this.#settings = settings;
    this.connection = connection;
    this.#script = script;
    this.#limits = limits;
    this.#clock = clock;
    this.configure();
  }

  /** Sends the present limits with the next batch, to replace the rates in Redis. */
  configure(): void {
    this.#rate = this.#limits.encode();
    this.#isConfigured = false;
  }

  /** Whether Redis fails for this throttle. At most once per second, it calls `probe` to try Redis again. */
  isDown(now: number, probe: () => void): boolean {
    return this.connection.isDown(this.#settings.keys[0] as string, now, probe);
  }

  /** The rates for the next batch. */
  get rate(): string {
    return this.#rate;
  }

  /** The flags of the next batch. */
  flags(): string {
    const flags = this.#isConfigured ? '' : Flag.configure;
    return this.connection.mayPublish ? flags : flags + Flag.checkPublish;
  }

  /** Calls the script. @returns A promise that rejects with a {@link ThrottleBackendError}. */
  send(batch: Batch, now: number, onLateReply: () => void): Promise<Reply> {
    const { face, keys, ttl, maxQueue, commandTimeout, serverTime } = this.#settings;
    batch.sentAt = now;
    const { messages } = this.wakeup;
    const { flags, rate } = batch.settings;
    const argument = encodeBatch(
      {
        owner: batch.owner,
        sequence: batch.sequence,
        ttl,
        concurrency: this.#limits.concurrency || Infinity,
        rate,
        flags: batch.endsNow ? flags + Flag.end : flags,
        confirmed: this.wakeup.confirmed,
        maxQueue,
        serverTime: serverTime === undefined ? '' : micros(serverTime()),
      },
      batch.commands,
    );
    // A later reply may bring a lease that has expired.
    const timeout = Math.min(commandTimeout, SAFE_SHARE * ttl);
    const request = { script: this.#script, keys, args: [argument], clock: this.#clock, timeout, onLateReply };
    return this.connection.call(request).then(
      (text) => {
        try {
          const reply = decodeReply(batch.commands, text, batch.sequence);
          this.connection.mayPublish = true;
          if (reply.outcome !== 'applied') return reply;
          const isOlder = this.#latest?.owner === batch.owner && this.#latest.sequence > batch.sequence;
          if (!isOlder) this.#latest = batch;
          // A reply that a later one has overtaken counts as a message: the earlier instant is safe.
          this.wakeup.setByReply(this.#clock.now(), reply.wakeSpan, reply.wakeAt, isOlder ? -1 : messages);
          if (flags.includes(Flag.configure) && rate === this.#rate) this.#isConfigured = true;
          return reply;
        } catch (error) {
          throw backendError(face, error);
        }
      },
      (error: unknown) => {
        throw backendError(face, error);
      },
    );
  }

  /** Runs another script on the keys. @returns A promise that rejects with a {@link ThrottleBackendError}. */
  async run(script: Script, ...args: string[]): Promise<unknown> {
    const { face, keys, commandTimeout, serverTime } = this.#settings;
    const time = serverTime === undefined ? '' : micros(serverTime());
    try {
      return await this.connection.call({
        script,
        keys,
        args: [time, ...args],
        clock: this.#clock,
        timeout: commandTimeout,
        onLateReply: ignore,
      });
    } catch (error) {
      throw backendError(face, error);
    }
  }
}
