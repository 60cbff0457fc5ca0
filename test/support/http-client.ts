/** An HTTP client that can disconnect, and functions that start servers and wait for them. */
import http, { type IncomingHttpHeaders, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';

/** Starts a server on a free port, or on a Unix socket if `host` is a path. Returns the port. */
export async function listen(server: Server, host = '127.0.0.1'): Promise<number> {
  const isPath = host.includes('/');
  await new Promise<void>((resolve) => void (isPath ? server.listen(host, resolve) : server.listen(0, host, resolve)));
  return isPath ? 0 : (server.address() as AddressInfo).port;
}

/** Stops a server, and closes its connections. */
export async function stop(server: Server): Promise<void> {
  const closed = new Promise((resolve) => void server.close(resolve));
  server.closeAllConnections();
  await closed;
}

/** A received response. */
export interface Seen {
  readonly status: number;
  readonly headers: IncomingHttpHeaders;
  readonly body: string;
}

/** A request in progress. */
export interface Call {
  /** The whole response. */
  readonly seen: Promise<Seen>;
  /** The first bytes of the body. */
  readonly started: Promise<string>;
  hangUp(): void;
}

interface RequestSettings {
  method?: string;
  headers?: Record<string, string | string[]>;
  host?: string;
  body?: string;
}

/** Sends a request on a connection of its own. */
export function call(
  { port }: { port: number },
  path = '/',
  { method = 'GET', headers = {}, host = '127.0.0.1', body }: RequestSettings = {},
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

/** Sends a request and waits for its whole response. */
export const get = (site: { port: number }, path?: string, settings?: RequestSettings): Promise<Seen> =>
  call(site, path, settings).seen;

/** Waits until `condition` returns true, for at most 10 s. */
export async function until(condition: () => boolean, what = 'the condition'): Promise<void> {
  const end = performance.now() + 10_000;
  while (!condition()) {
    if (performance.now() > end) throw new Error(`${what} did not occur within 10 s: ${String(condition)}`);
    await new Promise((resolve) => void setTimeout(resolve, 1));
  }
}

/** A promise that `open` resolves. */
export class Latch {
  open!: () => void;
  readonly opened: Promise<void> = new Promise((resolve) => void (this.open = resolve));
}
