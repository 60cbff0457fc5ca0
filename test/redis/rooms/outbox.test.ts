/** Batches, their numbers, their order and their repetition. The test plays the throttle object and Redis. */
import { describe, expect, test } from 'vitest';
import type { Batch, BatchTerms, OutboxOwner } from '../../../src/redis/batch.js';
import { ThrottleBackendError } from '../../../src/redis/errors.js';
import { Outbox } from '../../../src/redis/outbox.js';
import type { Command, Reply } from '../../../src/redis/protocol.js';

const turn = (): Promise<void> => new Promise((resolve) => void setImmediate(resolve));

/** One sending of a batch: the test replies to it, or lets it fail. */
interface Sending {
  readonly batch: Batch;
  /** The batch as Redis receives it: owner, number, end flag, commands. */
  readonly text: string;
  reply(outcome?: Reply['outcome']): Promise<void>;
  fail(): Promise<void>;
}

const textOf = (command: Command): string =>
  [command.kind, 'serial' in command ? command.serial : 'owner' in command ? command.owner : ''].join(' ').trim();

class FakeOwner implements OutboxOwner {
  readonly outbox: Outbox = new Outbox(this, 6);
  readonly sendings: Sending[] = [];
  /** The commands with which the throttle object begins an epoch. */
  stated: Command[] = [];
  ends = false;
  time = 0;
  rate = 'r0';
  /** Called while the state is collected, as a holder of a lost lease may call. */
  onRestate: () => void = () => {};
  onFailure: (batch: Batch, error: ThrottleBackendError) => void = () => {};
  readonly replies: number[] = [];
  readonly confirmed: string[] = [];
  #epochs = 0;

  send(batch: Batch): Promise<Reply> {
    batch.sentAt = this.time;
    const { owner, sequence, commands, endsNow } = batch;
    const text = `${owner} ${sequence}${endsNow ? 'e' : ''}: ${commands.map(textOf).join(', ')}`;
    return new Promise((resolve, reject) => {
      this.sendings.push({
        batch,
        text,
        reply(outcome = 'applied') {
          resolve({ outcome, linger: false, version: 1, upTo: 0, wakeSpan: Infinity, wakeAt: 0, events: [] });
          return turn();
        },
        fail() {
          reject(new ThrottleBackendError('Redis failed'));
          return turn();
        },
      });
    });
  }

  beginEpoch(): string {
    return `n${this.#epochs++}`;
  }

  terms(): BatchTerms {
    return { flags: '', rate: this.rate };
  }

  mayEnd(): boolean {
    return this.ends;
  }

  restate(): Command[] {
    this.onRestate();
    return this.stated;
  }

  repeatFirst(commands: readonly Command[]): Command[] {
    return [...this.stated, ...commands];
  }

  onReply({ sequence }: Batch): void {
    this.replies.push(sequence);
  }

  now(): number {
    return this.time;
  }

  onChange(): void {}

  /** Enqueues requests, one for each serial. */
  acquire(...serials: string[]): Promise<void> {
    for (const serial of serials) this.outbox.enqueue({ kind: 'acquire', serial, cost: 1, timeout: Infinity });
    return turn();
  }

  release(...serials: string[]): Promise<void> {
    for (const serial of serials) this.outbox.enqueue({ kind: 'release', serial });
    return turn();
  }

  /** Enqueues a command and records how it ends. */
  confirm(name: string, command?: Command): Promise<void> {
    this.outbox.enqueueAndConfirm({
      command,
      onDone: () => void this.confirmed.push(name),
      onFailed: () => void this.confirmed.push(`${name}!`),
    });
    return turn();
  }

  get texts(): string[] {
    return this.sendings.map(({ text }) => text);
  }

  /** Removes and returns the sendings so far. */
  take(): Sending[] {
    return this.sendings.splice(0);
  }
}

const pause: Command = { kind: 'pause', seconds: 1 };

/** An owner whose batch 0 Redis has applied. */
async function begun(): Promise<FakeOwner> {
  const owner = new FakeOwner();
  await owner.release('first');
  await owner.take()[0]!.reply();
  return owner;
}

describe('batches', () => {
  test('all commands of a tick travel in one batch, in order', async () => {
    const owner = new FakeOwner();
    void owner.acquire('a', 'b');
    void owner.release('c');
    await turn();
    expect(owner.texts).toEqual(['n0 0: acquire a, acquire b, release c']);
  });

  test('batches are numbered from 0, and at most two are without a reply', async () => {
    const owner = new FakeOwner();
    for (const serial of ['a', 'b', 'c', 'd']) await owner.acquire(serial);
    expect(owner.texts).toEqual(['n0 0: acquire a', 'n0 1: acquire b']);
    await owner.take()[0]!.reply();
    expect(owner.texts).toEqual(['n0 2: acquire c, acquire d']);
    expect(owner.outbox.isEmpty).toBe(false);
  });

  test('a batch has at most 2,000 commands', async () => {
    const owner = new FakeOwner();
    await owner.acquire(...Array.from({ length: 5_000 }, (_, index) => String(index)));
    await owner.sendings[0]!.reply();
    const sizes = owner.sendings.map(({ batch }) => batch.commands.length);
    expect(sizes).toEqual([2_000, 2_000, 1_000]);
    expect(owner.sendings[2]!.batch.commands[0]).toMatchObject({ serial: '4000' });
  });

  test('a renewal is sent at once, behind the commands of the tick', async () => {
    const owner = new FakeOwner();
    void owner.acquire('a');
    expect(owner.outbox.sendNow([{ kind: 'wait', serial: 'w', cost: 1, ticket: 1 }])).toBe(true);
    expect(owner.texts).toEqual(['n0 0: acquire a', 'n0 1: wait w']);
  });

  test('a request that is withdrawn before its tick ends is never sent', async () => {
    const owner = new FakeOwner();
    void owner.acquire('a', 'b');
    expect(owner.outbox.isUnsent('a')).toBe(true);
    expect(owner.outbox.withdraw('a')).toBe(true);
    await turn();
    expect(owner.texts).toEqual(['n0 0: acquire b']);
    expect(owner.outbox.withdraw('b')).toBe(false);
    await owner.sendings[0]!.reply();
    expect(owner.outbox.isEmpty).toBe(true);
  });

  test('a confirmation arrives with the reply to its own batch', async () => {
    const owner = new FakeOwner();
    await owner.confirm('pause', pause);
    await owner.confirm('limits');
    const [first, second] = owner.take();
    await first!.reply();
    expect(owner.confirmed).toEqual(['pause']);
    await second!.reply();
    expect(owner.confirmed).toEqual(['pause', 'limits']);
  });
});

describe('failures', () => {
  test('a failed batch is sent again with its old number, and no new batch before it', async () => {
    const owner = new FakeOwner();
    await owner.release('a');
    await owner.take()[0]!.fail();
    await owner.release('b');
    expect(owner.texts).toEqual([]);
    expect(owner.outbox.retryAt).toBeCloseTo(0.1);
    owner.outbox.retry();
    const [retry] = owner.take();
    expect(retry!.text).toBe('n0 0: release a');
    await retry!.reply();
    expect(owner.texts).toEqual(['n0 1: release b']);
    expect(owner.outbox.isFailing).toBe(false);
  });

  test('batch 0 states the leases when it is sent again, and later batches do not', async () => {
    const owner = new FakeOwner();
    await owner.acquire('a');
    await owner.acquire('b');
    for (const sending of owner.take()) await sending.fail();
    owner.stated = [{ kind: 'hold', serial: 'h', item: '1 1 1 0' }];
    owner.outbox.retry();
    expect(owner.texts).toEqual(['n0 0: hold h, acquire a', 'n0 1: acquire b']);
  });

  test('a batch is sent again with its old settings, since Redis may have applied the first copy', async () => {
    const owner = new FakeOwner();
    await owner.release('a');
    await owner.take()[0]!.fail();
    owner.rate = 'r1';
    await owner.confirm('limits');
    const [retry] = owner.take();
    expect(retry!.batch.settings.rate).toBe('r0');
    await retry!.reply();
    expect(owner.sendings.map(({ batch }) => batch.settings.rate)).toEqual(['r1']);
  });

  test('the pause between retries doubles, up to a third of the ttl or two seconds', async () => {
    const owner = new FakeOwner();
    const pauses: number[] = [];
    await owner.release('a');
    for (let round = 0; round < 7; round++) {
      await owner.take()[0]!.fail();
      pauses.push(Number((owner.outbox.retryAt - owner.time).toFixed(6)));
      owner.time = owner.outbox.retryAt;
      owner.outbox.retry();
    }
    expect(pauses).toEqual([0.1, 0.2, 0.4, 0.8, 1.6, 2, 2]);
  });

  test('a new request, or a caller that waits for a reply, tries again at once', async () => {
    const owner = new FakeOwner();
    await owner.release('a');
    await owner.take()[0]!.fail();
    await owner.acquire('b');
    expect(owner.take().map(({ text }) => text)).toEqual(['n0 0: release a']);
  });

  test('the confirmation of a failed batch fails, and its command is not sent again', async () => {
    const owner = new FakeOwner();
    void owner.release('a');
    await owner.confirm('pause', pause);
    await owner.take()[0]!.fail();
    expect(owner.confirmed).toEqual(['pause!']);
    owner.outbox.retry();
    expect(owner.texts).toEqual(['n0 0: release a']);
  });

  test('a confirmation that waits for a retry fails with the retry', async () => {
    const owner = new FakeOwner();
    await owner.release('a');
    await owner.take()[0]!.fail();
    await owner.confirm('pause', pause);
    expect(owner.confirmed).toEqual([]);
    await owner.take()[0]!.fail();
    expect(owner.confirmed).toEqual(['pause!']);
    expect(owner.sendings).toEqual([]);
  });

  test('abandoned confirmations fail: no caller waits forever', async () => {
    const owner = new FakeOwner();
    await owner.confirm('pause', pause);
    await owner.confirm('limits');
    await owner.confirm('unsent', pause);
    owner.onFailure = (_, error) => owner.outbox.abandon(error);
    const [first, second] = owner.take();
    await first!.fail();
    expect(owner.confirmed).toEqual(['pause!', 'limits!', 'unsent!']);
    await second!.reply();
    expect(owner.confirmed).toHaveLength(3);
    expect(owner.outbox.isEmpty).toBe(true);
    expect(owner.outbox.name).toBe('');
  });

  test('a batch that fails each time is sent again after its pause, though Redis refuses the next', async () => {
    const owner = new FakeOwner();
    await owner.release('a');
    await owner.release('b');
    for (let round = 0; round < 3; round++) {
      const [first, second] = owner.take();
      await first!.fail();
      await second!.reply('refused');
      expect(owner.sendings).toEqual([]);
      expect(owner.outbox.retryAt).toBeGreaterThan(owner.time);
      owner.outbox.retry();
    }
  });
});

describe('order on a pool of connections (FAULTS 57)', () => {
  test.each(['refused', 'unknown owner'] as const)(
    'a batch that overtakes its predecessor and gets the reply "%s" is sent again in the same epoch',
    async (outcome) => {
      const owner = new FakeOwner();
      await owner.acquire('a');
      await owner.acquire('b');
      const [first, second] = owner.take();
      await second!.reply(outcome);
      expect(owner.sendings).toEqual([]);
      await first!.reply();
      expect(owner.texts).toEqual(['n0 1: acquire b']);
    },
  );

  test.each(['refused', 'unknown owner'] as const)(
    'the late reply "%s" to a batch that had a predecessor begins no epoch',
    async (outcome) => {
      const owner = new FakeOwner();
      await owner.acquire('a');
      await owner.acquire('b');
      const [first, second] = owner.take();
      await first!.reply();
      await second!.reply(outcome);
      expect(owner.texts).toEqual(['n0 1: acquire b']);
    },
  );

  test.each(['refused', 'unknown owner'] as const)(
    'after the reply "%s", a batch waits for the reply to its predecessor, though a new request waits behind both',
    async (outcome) => {
      const owner = new FakeOwner();
      await owner.release('a');
      await owner.release('b');
      const [first, second] = owner.take();
      await first!.fail();
      await second!.reply('refused');
      await owner.acquire('c');
      const [firstAgain, secondAgain] = owner.take();
      await secondAgain!.reply(outcome);
      expect(owner.texts).toEqual([]);
      await firstAgain!.reply();
      expect(owner.texts).toEqual(['n0 1: release b', 'n0 2: acquire c']);
    },
  );

  test('the reply to a later batch proves that Redis is back, and the earlier batches are sent again', async () => {
    const owner = new FakeOwner();
    await owner.release('a');
    await owner.release('b');
    const [first, second] = owner.take();
    await first!.fail();
    await second!.reply();
    expect(owner.texts).toEqual(['n0 0: release a']);
  });
});

describe('epochs', () => {
  test('an unknown owner begins an epoch: it replaces the old one and states everything', async () => {
    const owner = await begun();
    await owner.acquire('b');
    owner.stated = [
      { kind: 'hold', serial: 'h', item: '1 1 1 0' },
      { kind: 'wait', serial: 'w', cost: 1, ticket: 5 },
      { kind: 'acquire', serial: 'b', cost: 1, timeout: Infinity },
    ];
    await owner.take()[0]!.reply('unknown owner');
    expect(owner.texts).toEqual(['n1 0: replace n0, hold h, wait w, acquire b']);
  });

  test('releases and cancellations are dropped, and commands that concern others keep their order', async () => {
    const owner = await begun();
    void owner.acquire('a');
    void owner.release('x');
    void owner.confirm('pause', pause);
    await owner.acquire('b');
    owner.stated = ['a', 'b', 'c'].map((serial) => ({ kind: 'acquire', serial, cost: 1, timeout: Infinity }));
    await owner.take()[0]!.reply('unknown owner');
    expect(owner.texts).toEqual(['n1 0: replace n0, acquire c, acquire a, pause, acquire b']);
    await owner.sendings[0]!.reply();
    expect(owner.confirmed).toEqual(['pause']);
  });

  test('a command that is enqueued while the state is collected is not lost', async () => {
    const owner = await begun();
    await owner.release('b');
    owner.onRestate = () => void owner.confirm('pause', pause);
    await owner.take()[0]!.reply('unknown owner');
    expect(owner.texts).toEqual(['n1 0: replace n0, pause']);
  });

  test('a gap in the numbers begins an epoch, which removes the old owner', async () => {
    const owner = await begun();
    await owner.release('b');
    await owner.take()[0]!.reply('refused');
    expect(owner.texts).toEqual(['n1 0: replace n0']);
  });

  test('an unknown owner without leases and waiters sends nothing', async () => {
    const owner = await begun();
    await owner.release('b');
    await owner.take()[0]!.reply('unknown owner');
    expect(owner.sendings).toEqual([]);
    expect(owner.outbox.isEmpty).toBe(true);
  });

  test('batch 0 states all leases, however many, and comes first though earlier batches have no reply', async () => {
    const owner = await begun();
    await owner.release('b');
    await owner.release('c');
    owner.take();
    owner.stated = Array.from({ length: 3_000 }, (_, index) => ({ kind: 'hold', serial: `${index}`, item: '1 1 1 0' }));
    owner.outbox.restart();
    owner.outbox.sendNow([]);
    const [first, second] = owner.take();
    expect([first!.batch.owner, first!.batch.sequence, first!.batch.commands.length]).toEqual(['n1', 0, 3_001]);
    expect(second!.batch.commands).toEqual([]);
  });

  test('replies to batches of an earlier epoch have no effect', async () => {
    const owner = await begun();
    await owner.release('b');
    const [old] = owner.take();
    owner.stated = [{ kind: 'wait', serial: 'w', cost: 1, ticket: 5 }];
    owner.outbox.restart();
    await old!.reply('unknown owner');
    expect(owner.replies).toEqual([0]);
    expect(owner.texts).toEqual(['n1 0: replace n0, wait w']);
  });

  test('after a long silence, the next batch begins an epoch', async () => {
    const owner = await begun();
    owner.outbox.forget();
    await owner.acquire('b');
    expect(owner.texts).toEqual(['n1 0: acquire b']);
  });
});

describe('the end of an owner', () => {
  test('the last batch has the end flag, and the next one begins an epoch after its reply', async () => {
    const owner = await begun();
    owner.ends = true;
    await owner.release('b');
    owner.ends = false;
    await owner.acquire('c');
    expect(owner.outbox.sendNow([])).toBe(false);
    expect(owner.texts).toEqual(['n0 1e: release b']);
    await owner.take()[0]!.reply();
    expect(owner.texts).toEqual(['n1 0: acquire c']);
  });

  test('a batch that is sent again after a failure has no end flag', async () => {
    const owner = new FakeOwner();
    await owner.acquire('a');
    owner.ends = true;
    await owner.release('a');
    const [first, second] = owner.take();
    expect(second!.text).toBe('n0 1e: release a');
    await first!.fail();
    await second!.reply('refused');
    owner.outbox.retry();
    await owner.sendings[0]!.reply();
    expect(owner.texts.at(-1)).toBe('n0 1: release a');
  });

  test('an owner that Redis does not know has ended, if only releases were to come', async () => {
    const owner = await begun();
    owner.ends = true;
    await owner.release('b');
    await owner.take()[0]!.reply('unknown owner');
    expect([owner.sendings, owner.outbox.name, owner.outbox.isEmpty]).toEqual([[], '', true]);
  });

  test('a pause in the last batch of an unknown owner is sent again', async () => {
    const owner = await begun();
    owner.ends = true;
    await owner.confirm('pause', pause);
    await owner.take()[0]!.reply('unknown owner');
    expect(owner.texts).toEqual(['n1 0e: replace n0, pause']);
    expect(owner.confirmed).toEqual([]);
    await owner.sendings[0]!.reply();
    expect(owner.confirmed).toEqual(['pause']);
  });
});
