/** A proxy whose connections become half-open: they stay open, and carry no more packets. */
import { type AddressInfo, createConnection, createServer, type Socket } from 'node:net';
import { onTestFinished } from 'vitest';
import { closeTogether } from './support.js';

export interface HalfOpenProxy {
  readonly port: number;
  readonly url: string;
  /** The number of open connections. */
  readonly open: number;
  /** Whether new connections carry no packets from their start. */
  silent: boolean;
  /** Freezes the connections that have sent `text`; all of them without a text. Returns their number. */
  freeze(text?: string): number;
}

/** Starts a proxy in front of `port`, which ends with the test. */
export async function startHalfOpenProxy(port: number): Promise<HalfOpenProxy> {
  const links = new Set<{ near: Socket; sent: string; frozen: boolean }>();
  const proxy = createServer((near) => {
    const far = createConnection({ host: '127.0.0.1', port });
    const link = { near, sent: '', frozen: state.silent };
    links.add(link);
    near.on('data', (data) => {
      if (link.frozen) return;
      link.sent += data.toString('latin1').toUpperCase();
      far.write(data);
    });
    far.on('data', (data) => void (link.frozen || near.write(data)));
    closeTogether(near, far, () => void links.delete(link));
  });
  await new Promise<void>((resolve) => void proxy.listen(0, '127.0.0.1', resolve));
  onTestFinished(() => {
    for (const { near } of links) near.destroy();
    proxy.close();
  });
  const { port: own } = proxy.address() as AddressInfo;
  const state = {
    port: own,
    url: `redis://127.0.0.1:${own}`,
    silent: false,
    get open() {
      return links.size;
    },
    freeze(text = '') {
      const chosen = [...links].filter(({ sent }) => sent.includes(text.toUpperCase()));
      for (const link of chosen) link.frozen = true;
      return chosen.length;
    },
  };
  return state;
}
