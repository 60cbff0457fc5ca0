/** One participant on a manual clock. The test plays Redis: it sees the batches, and sends replies and messages. */
import { EventPublisher } from '../../../src/core/events.js';
import type { AcquireOptions } from '../../../src/core/gate.js';
import { Throttle } from '../../../src/core/throttle.js';
import type { Batch } from '../../../src/redis/batch.js';
import type { Call } from '../../../src/redis/calls.js';
import { ThrottleBackendError } from '../../../src/redis/errors.js';
import { Fallback } from '../../../src/redis/fallback.js';
import type { Lease } from '../../../src/redis/lease.js';
import { Participant } from '../../../src/redis/participant.js';
import { type Command, decodeReply, type Reply } from '../../../src/redis/protocol.js';
import { SteadyClock } from '../../../src/redis/steady-clock.js';
import { Wakeup } from '../../../src/redis/wakeup.js';
import type { Wire } from '../../../src/redis/wire.js';
import { ManualClock } from 'headgate/testing';
import { Outcomes } from '../../support/support.js';

export const TTL = 6;

interface Sending {
  readonly batch: Batch;
  readonly resolve: (reply: Reply) => void;
  readonly reject: (error: ThrottleBackendError) => void;
  readonly onLateReply: () => void;
}

export interface SceneOptions {
  readonly linger?: number;
  readonly failOpen?: boolean;
  readonly leaving?: boolean;
}

const textOf = (command: Command): string => {
  const parts: Record<Command['kind'], string> = {
    acquire: 'A',
    release: 'R',
    cancel: 'C',
    settle: 'S',
    correct: 'T',
    pause: 'P',
    resume: 'U',
    replace: 'E',
    hold: 'K',
    wait: 'W',
  };
  const name = 'serial' in command ? command.serial : 'owner' in command ? command.owner : '';
  return `${parts[command.kind]}${name}`;
};

/** A record of a grant. */
export const grant = (serial: string, slot = 1, at = 1): string => `G ${serial} ${slot} ${at} 1 0`;

export class Scene {
  readonly clock: ManualClock = new ManualClock(100);
  readonly outcomes: Outcomes = new Outcomes();
  readonly participant: Participant;
  /** The owner names whose messages the participant receives. */
  readonly channels: Set<string> = new Set();
  readonly wakeup: Wakeup = new Wakeup();
  /** The number of times that the participant became idle. */
  idles = 0;
  distrusts = 0;
  isDown = false;
  #sendings: Sending[] = [];
  #owners = 0;

  constructor({ linger = 0, failOpen = false, leaving = false }: SceneOptions = {}) {
    const clock = new SteadyClock(this.clock);
    const face = { key: 'k', name: undefined, capacity: Infinity, concurrency: 1, period: 1, held: 0, waiting: 0 };
    const settleWithoutPermit = (call: Call, error: unknown, reason?: 'aborted'): void => {
      publisher.refused(call, call.cost, error, reason);
      if (call.tries && error === undefined) call.resolve(undefined);
      else call.reject(error);
    };
    const publisher = new EventPublisher({ ...face, burst: 1 }, clock);
    const local = new Throttle(Infinity, 1, 1, { clock: this.clock });
    this.participant = new Participant({
      face,
      clock,
      wire: this.#createWire(),
      publisher,
      fallback: failOpen ? new Fallback(local, publisher, settleWithoutPermit) : undefined,
      ttl: TTL,
      linger,
      maxQueue: 10,
      onIdle: () => void this.idles++,
      isLeaving: () => leaving,
      isDisposed: () => false,
      settleWithoutPermit,
    });
  }

  #createWire(): Wire {
    const wire: Pick<Wire, 'wakeup' | 'rate' | 'flags' | 'isDown' | 'send'> & { readonly connection: object } = {
      wakeup: this.wakeup,
      rate: '-1 1 1',
      connection: {
        createOwner: () => `c.${this.#owners++}`,
        register: (name: string) => void this.channels.add(name),
        unregister: (name: string) => void this.channels.delete(name),
        distrustMessages: () => void this.distrusts++,
      },
      flags: () => '',
      isDown: (_, probe) => {
        if (this.isDown) probe();
        return this.isDown;
      },
      send: (batch, now, onLateReply) => {
        batch.sentAt = now;
        return new Promise((resolve, reject) => void this.#sendings.push({ batch, resolve, reject, onLateReply }));
      },
    };
    return wire as unknown as Wire;
  }

  /** Calls `acquire` and follows it under a name. */
  acquire(name: string, options: AcquireOptions = {}, tries = false): Promise<void> {
    this.outcomes.follow(name, this.participant.acquire(1, options, tries));
    return this.settle();
  }

  permit(name: string): Lease {
    return this.outcomes.permit(name) as Lease;
  }

  release(name: string): Promise<void> {
    this.permit(name).release();
    return this.settle();
  }

  /** The batches without a reply. */
  get batches(): string[] {
    return this.#sendings.map(({ batch: { owner, sequence, commands, endsNow } }) =>
      [`${owner} ${sequence}${endsNow ? 'e' : ''}:`, ...commands.map(textOf)].join(' '),
    );
  }

  get order(): string {
    return this.outcomes.order.join(' ');
  }

  /** Replies to the oldest batch. */
  reply(...lines: string[]): Promise<void> {
    const { batch, resolve } = this.#next();
    resolve(decodeReply(batch.commands, lines.join('\n'), batch.sequence));
    return this.settle();
  }

  /** Lets the oldest batch fail. */
  async fail(): Promise<Sending> {
    const sending = this.#next();
    sending.reject(new ThrottleBackendError('Redis failed'));
    await this.settle();
    return sending;
  }

  #next(): Sending {
    const sending = this.#sendings.shift();
    if (sending === undefined) throw new Error('no batch is on its way');
    return sending;
  }

  message(...events: string[]): Promise<void> {
    this.participant.applyEvents(events);
    return this.settle();
  }

  settle(): Promise<void> {
    return this.clock.advance(0);
  }
}

/** A scene with one holder, `held`, and the waiters `a` and `b` with the tickets 11 and 12. */
export async function busyScene(options?: SceneOptions, head = 'A 1 12'): Promise<Scene> {
  const scene = new Scene(options);
  void scene.acquire('held');
  void scene.acquire('a');
  await scene.acquire('b');
  await scene.reply(head, grant('0'), 'Q 1 11', 'Q 2 12');
  return scene;
}
