/** The faults that a history injects: into the processes, their connections, and Redis. */
import type { Redis } from 'ioredis';
import type { TcpProxy } from '../../support/tcp-proxy.js';
import { type Dice, sleep } from '../part.js';
import type { Child } from './child.js';

/** The processes and the server under test. */
export interface Fleet {
  readonly admin: Redis;
  readonly serverPid: number;
  readonly ttl: number;
  readonly children: readonly Child[];
  readonly proxies: readonly TcpProxy[];
  /** Kills a process, and starts its successor after some time. */
  replace(index: number, milliseconds: number): Promise<void>;
  note(step: string): void;
}

export type FaultName =
  | 'kill -9'
  | 'blocked loop'
  | 'suspended process'
  | 'cut connections'
  | 'frozen connections'
  | 'SCRIPT FLUSH'
  | 'CLIENT KILL'
  | 'paused Redis';

const faults: Readonly<Record<FaultName, (fleet: Fleet, dice: Dice) => Promise<void>>> = {
  async 'kill -9'(fleet, dice) {
    const index = dice.below(fleet.children.length);
    const milliseconds = dice.pick([0, 100, 500]);
    fleet.note(`process ${index} is killed, and its successor starts after ${milliseconds} ms`);
    await fleet.replace(index, milliseconds);
  },
  async 'blocked loop'(fleet, dice) {
    const index = dice.below(fleet.children.length);
    const block = 1_000 * fleet.ttl * dice.pick([0.2, 0.5, 1, 1.5]);
    fleet.note(`process ${index} blocks its loop for ${block} ms`);
    fleet.children[index]?.send({ block });
  },
  async 'suspended process'(fleet, dice) {
    const index = dice.below(fleet.children.length);
    const milliseconds = 1_000 * fleet.ttl * dice.pick([0.1, 0.5, 1.2]);
    fleet.note(`process ${index} is suspended for ${milliseconds} ms`);
    const child = fleet.children[index];
    child?.signal('SIGSTOP');
    await sleep(milliseconds);
    child?.signal('SIGCONT');
  },
  async 'cut connections'(fleet, dice) {
    const index = dice.below(fleet.proxies.length);
    const milliseconds = dice.pick([0, 0, 200, 1_000 * fleet.ttl]);
    fleet.note(`the connections of process ${index} are cut, and refused for ${milliseconds} ms`);
    const proxy = fleet.proxies[index] as TcpProxy;
    proxy.closed = milliseconds > 0;
    proxy.cut();
    await sleep(milliseconds);
    proxy.closed = false;
  },
  async 'frozen connections'(fleet, dice) {
    const index = dice.below(fleet.proxies.length);
    const milliseconds = dice.pick([50, 300, 900 * fleet.ttl]);
    fleet.note(`the connections of process ${index} lose all packets for ${milliseconds} ms, and are cut`);
    const proxy = fleet.proxies[index] as TcpProxy;
    proxy.freeze();
    await sleep(milliseconds);
    proxy.cut();
  },
  async 'SCRIPT FLUSH'(fleet) {
    fleet.note('the scripts are flushed');
    await fleet.admin.script('FLUSH');
  },
  async 'CLIENT KILL'(fleet, dice) {
    const own = await fleet.admin.client('ID');
    const list = (await fleet.admin.client('LIST')) as string;
    const ids = [...list.matchAll(/^id=(\d+)/gm)].map((match) => Number(match[1])).filter((id) => id !== own);
    if (ids.length === 0) return;
    const id = dice.pick(ids);
    fleet.note(`connection ${id} is killed`);
    await fleet.admin.client('KILL', 'ID', id).catch(() => {});
  },
  async 'paused Redis'(fleet, dice) {
    const milliseconds = dice.pick([20, 200, 700, 1_200 * fleet.ttl]);
    fleet.note(`Redis is suspended for ${milliseconds} ms`);
    process.kill(fleet.serverPid, 'SIGSTOP');
    try {
      await sleep(milliseconds);
    } finally {
      process.kill(fleet.serverPid, 'SIGCONT');
    }
  },
};

export const FAULT_NAMES: readonly FaultName[] = Object.keys(faults) as FaultName[];

/** Injects faults until `end`, by the clock of `performance`. Counts each in `counts`. */
export async function injectFaults(
  fleet: Fleet,
  dice: Dice,
  end: number,
  counts: Map<FaultName, number>,
): Promise<void> {
  while (performance.now() < end) {
    await sleep(50 + dice.below(500));
    const name = dice.pick(FAULT_NAMES);
    counts.set(name, (counts.get(name) ?? 0) + 1);
    await faults[name](fleet, dice);
  }
}
