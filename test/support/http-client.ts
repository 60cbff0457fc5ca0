/** A client that sees what goes over the wire, and can hang up. And what it takes to wait for servers. */
import http, { type IncomingHttpHeaders, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';

/** Starts a server on a port of the system's choice, or on a Unix socket, if `host` is its path. */
export async function listen(server: Server, host = '127.0.0.1'): Promise<number> {
  const isPath = host.includes('/');
  await new Promise<void>((resolve) => void (isPath ? server.listen(host, resolve) : server.listen(0, host, resolve)));
  return isPath ? 0 : (server.address() as AddressInfo).port;
}

/** Stops a server and everyone who is still connected. */
export async function stop(server: Server): Promise<void> {
  const closed = new Promise((resolve) => void server.close(resolve));
  server.closeAllConnections();
  await closed;
}

/** A response as it came over the wire. */
export interface Seen {
  readonly status: number;
  readonly headers: IncomingHttpHeaders;
  readonly body: string;
}

/** A request under way. */
export interface Call {
  /** Everything, once it has come. */
  readonly seen: Promise<Seen>;
  /** The first bytes of the body. */
  readonly started: Promise<string>;
  hangUp(): void;
}

export interface Wanted {
  method?: string;
  headers?: Record<string, string | string[]>;
  host?: string;
  body?: string;
}

/** Sends a request on a connection of its own. */
export function call(
  { port }: { port: number },
  path = '/',
  { method = 'GET', headers = {}, host = '127.0.0.1', body }: Wanted = {},
): Call {
  const request = http.request({
    ...(host.includes('/') ? { socketPath: host } : { host, port }),
    path,
    method,
    headers,
    agent: false,
  });
  let start: (text: string) => void;
  const started = new Promise<string>((resolve) => void (start = resolve));
  const seen = new Promise<Seen>((resolve, reject) => {
    request.once('error', reject);
    request.once('response', (response) => {
      let text = '';
      response.setEncoding('utf8');
      response.on('data', (chunk: string) => {
        text += chunk;
        start(text);
      });
      response.once('error', reject);
      response.once('end', () => resolve({ status: response.statusCode ?? 0, headers: response.headers, body: text }));
    });
  });
  seen.catch(() => {});
  request.end(body);
  return { seen, started, hangUp: () => void request.destroy() };
}

/** Sends a request and waits for all of its response. */
export const get = (site: { port: number }, path?: string, wanted?: Wanted): Promise<Seen> =>
  call(site, path, wanted).seen;

/** Waits until something is so, for 10 s at the most. */
export async function until(isSo: () => boolean, what = 'it'): Promise<void> {
  const end = performance.now() + 10_000;
  while (!isSo()) {
    if (performance.now() > end) throw new Error(`${what} did not happen within 10 s: ${String(isSo)}`);
    await new Promise((resolve) => void setTimeout(resolve, 1));
  }
}

/** Something to wait for, and what ends the wait. */
export class Latch {
  open!: () => void;
  readonly opened: Promise<void> = new Promise((resolve) => void (this.open = resolve));
}
