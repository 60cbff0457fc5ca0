/** A TCP proxy in front of Redis, whose connections a test cuts, refuses or freezes. */
import { type AddressInfo, createConnection, createServer, type Server, type Socket } from 'node:net';

export class Proxy {
  readonly #port: number;
  readonly #links = new Set<{ readonly near: Socket; isFrozen: boolean }>();
  #server: Server | undefined;
  /** Whether new connections are refused. */
  isClosed = false;
  url = '';

  constructor(port: number) {
    this.#port = port;
  }

  async start(): Promise<this> {
    const server = createServer((near) => this.#connect(near));
    this.#server = server;
    await new Promise<void>((resolve) => void server.listen(0, '127.0.0.1', resolve));
    this.url = `redis://127.0.0.1:${(server.address() as AddressInfo).port}`;
    return this;
  }

  #connect(near: Socket): void {
    if (this.isClosed) return void near.destroy();
    const far = createConnection({ host: '127.0.0.1', port: this.#port });
    const link = { near, isFrozen: false };
    this.#links.add(link);
    near.on('data', (data) => void (link.isFrozen || far.write(data)));
    far.on('data', (data) => void (link.isFrozen || near.write(data)));
    for (const [socket, other] of [
      [near, far],
      [far, near],
    ] as const) {
      socket.on('error', () => {});
      socket.on('close', () => {
        this.#links.delete(link);
        other.destroy();
      });
    }
  }

  cut(): void {
    for (const { near } of this.#links) near.destroy();
  }

  /** The present connections stay open and lose all packets from now on. */
  freeze(): void {
    for (const link of this.#links) link.isFrozen = true;
  }

  async stop(): Promise<void> {
    this.cut();
    await new Promise<unknown>((resolve) => this.#server?.close(resolve));
  }
}
