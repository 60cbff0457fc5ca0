/** A TCP proxy in front of a server. Its connections can be cut, frozen or refused, and can lose replies. */
import { type AddressInfo, createConnection, createServer, type Server, type Socket } from 'node:net';

interface Link {
  readonly near: Socket;
  /** The start of what the client has sent, in capitals. */
  sent: string;
  isFrozen: boolean;
}

/** The characters of a connection that `freeze` searches. A client subscribes at the start of a connection. */
const SEARCHED = 65_536;

export class TcpProxy {
  readonly #target: number;
  readonly #links = new Set<Link>();
  readonly #server: Server = createServer((near) => this.#connect(near));
  /** Whether new connections are refused. */
  closed = false;
  /** Whether new connections are frozen from their start. */
  silent = false;
  /** Whether the clients receive nothing, while the server receives their data. */
  dropsReplies = false;
  url = '';

  /** @param target The port of the server. */
  constructor(target: number) {
    this.#target = target;
  }

  async start(): Promise<this> {
    await new Promise<void>((resolve) => void this.#server.listen(0, '127.0.0.1', resolve));
    this.url = `redis://127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
    return this;
  }

  #connect(near: Socket): void {
    if (this.closed) return void near.destroy();
    const far = createConnection({ host: '127.0.0.1', port: this.#target });
    const link: Link = { near, sent: '', isFrozen: this.silent };
    this.#links.add(link);
    near.on('data', (data) => {
      if (link.isFrozen) return;
      if (link.sent.length < SEARCHED) link.sent += data.toString('latin1').toUpperCase();
      far.write(data);
    });
    far.on('data', (data) => void (link.isFrozen || this.dropsReplies || near.write(data)));
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

  /** The number of open connections. */
  get open(): number {
    return this.#links.size;
  }

  /** Closes all present connections. */
  cut(): void {
    for (const { near } of this.#links) near.destroy();
  }

  /**
   * Freezes the connections that have sent `text`; all of them without a text. They stay open and carry no more
   * packets. Returns their number.
   */
  freeze(text = ''): number {
    const chosen = [...this.#links].filter(({ sent }) => sent.includes(text.toUpperCase()));
    for (const link of chosen) link.isFrozen = true;
    return chosen.length;
  }

  async stop(): Promise<void> {
    this.cut();
    await new Promise<unknown>((resolve) => this.#server.close(resolve));
  }
}
