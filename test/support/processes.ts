/**
 * Processes and temporary folders that never outlive this process, however it ends. After SIGKILL no handler of this
 * process runs, so a second process cleans up: the reaper. It starts with the first process or folder, and reads the
 * items to clean up from a pipe. When this process ends, the system closes the pipe. Then the reaper kills the
 * processes and removes the folders.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

/**
 * The program of the reaper, in CommonJS. A line is `+` or `-`, followed by an item as JSON: a process or a path. The
 * reaper ignores signals that end a whole process group. It retries a removal while a dying process still writes.
 */
const REAPER = `
const { rmSync } = require('node:fs');
const items = new Set();
const options = { recursive: true, force: true, maxRetries: 20, retryDelay: 50 };
const attempt = (action) => { try { action(); } catch {} };
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) process.on(signal, () => {});
require('node:readline').createInterface({ input: process.stdin })
  .on('line', (line) => void (line[0] === '+' ? items.add(line.slice(1)) : items.delete(line.slice(1))))
  .on('close', () => {
    const left = [...items].map((item) => JSON.parse(item));
    for (const { pid } of left) if (pid) attempt(() => process.kill(pid, 'SIGKILL'));
    for (const { path } of left) if (path) attempt(() => rmSync(path, options));
  });`;

type Item = { readonly pid: number } | { readonly path: string };

let reaper: ChildProcess | undefined;

function notify(change: '+' | '-', item: Item): void {
  if (reaper === undefined) {
    // Detached, so that Ctrl-C does not reach the reaper. The environment is empty, so that it changes nothing.
    reaper = spawn(process.execPath, ['-e', REAPER], {
      cwd: '/',
      env: {},
      detached: true,
      stdio: ['pipe', 'ignore', 'ignore'],
    });
    reaper.on('error', () => {});
    reaper.stdin?.on('error', () => {});
    // Neither the reaper nor its pipe keeps this process alive.
    reaper.unref();
    (reaper.stdin as unknown as { unref(): void }).unref();
  }
  reaper.stdin?.write(`${change}${JSON.stringify(item)}\n`);
}

/** Ensures that a process ends no later than this process. Returns the process. */
export function guarded<T extends ChildProcess>(child: T): T {
  const { pid } = child;
  if (pid === undefined) return child;
  notify('+', { pid });
  child.once('exit', () => notify('-', { pid }));
  return child;
}

export interface StartOptions {
  readonly cwd?: string;
  readonly env?: NodeJS.ProcessEnv;
  /** The use of file descriptors 1, 2 and so on. The default is a pipe for each of 1 and 2. */
  readonly outputs?: readonly ('pipe' | 'ignore')[];
}

/**
 * Starts a program that ends no later than this process, even if this process is killed during the call: a shell waits
 * for a line, and becomes the program when the reaper knows its process. The input of the program is empty.
 */
export function startProcess(
  program: string,
  args: readonly string[],
  { outputs = ['pipe', 'pipe'], ...options }: StartOptions = {},
): ChildProcess {
  const child = guarded(
    spawn('/bin/sh', ['-c', 'read -r _ && exec "$@"', 'sh', program, ...args], {
      ...options,
      stdio: ['pipe', ...outputs],
    }),
  );
  // A program that ends early closes its input.
  child.stdin?.on('error', () => {});
  child.stdin?.end('\n');
  return child;
}

/** Kills a process, and waits until it has ended. */
export async function endProcess(child: ChildProcess): Promise<void> {
  if (child.pid === undefined || child.exitCode !== null || child.signalCode !== null) return;
  const ended = once(child, 'exit');
  child.kill('SIGKILL');
  await ended;
}

/** Ensures that a file or a folder is removed when this process ends. Returns the path. */
export function guardedPath(path: string): string {
  notify('+', { path });
  return path;
}

/** Creates a folder that is removed when this process ends, or earlier by {@link removePath}. */
export const temporaryFolder = (prefix: string, parent: string = tmpdir()): string =>
  guardedPath(mkdtempSync(join(parent, prefix)));

/** Removes a path of {@link guardedPath} or {@link temporaryFolder}. */
export function removePath(path: string): void {
  rmSync(path, { recursive: true, force: true, maxRetries: 20, retryDelay: 50 });
  notify('-', { path });
}
