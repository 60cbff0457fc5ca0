/** A server for the finished site on this machine. */
import { once } from 'node:events';
import { readFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { extname, join, sep } from 'node:path';

const TYPES: Readonly<Record<string, string>> = {
  '.css': 'text/css',
  '.html': 'text/html; charset=utf-8',
  '.js': 'text/javascript',
  '.json': 'application/json',
  '.svg': 'image/svg+xml',
};

export interface Served {
  /** The address of the first page. */
  readonly url: string;
  close(): void;
}

/** Serves the files of `folder` under the path `base`, on a free port of the loopback interface. */
export async function serveSite(folder: string, base = '/'): Promise<Served> {
  const server = createServer((request, response) => {
    const fail = (): void => void response.writeHead(404, { 'Content-Type': 'text/plain' }).end('not found');
    let path: string;
    try {
      path = decodeURIComponent(new URL(request.url ?? '/', 'http://localhost').pathname);
    } catch {
      return fail();
    }
    if (!path.startsWith(base)) return fail();
    const asked = join(folder, path.slice(base.length));
    const file = path.endsWith('/') ? join(asked, 'index.html') : extname(asked) === '' ? `${asked}.html` : asked;
    if (!file.startsWith(folder + sep)) return fail();
    readFile(file).then(
      (content) => response.setHeader('Content-Type', TYPES[extname(file)] ?? 'application/octet-stream').end(content),
      fail,
    );
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}${base}`,
    close: () => {
      server.closeAllConnections();
      server.close();
    },
  };
}
