/** A proxy whose connections become half-open: they stay open, and carry no more packets. */
import { onTestFinished } from 'vitest';
import { TcpProxy } from '../support/tcp-proxy.js';

/** Starts a proxy in front of `port`, which ends with the test. */
export async function startHalfOpenProxy(port: number): Promise<TcpProxy> {
  const proxy = await new TcpProxy(port).start();
  onTestFinished(() => proxy.stop());
  return proxy;
}
