/** Programs that no npm package holds. What Debian and Ubuntu have of them is installed where that is allowed. */
import { spawn } from 'node:child_process';
import { accessSync, constants, writeFileSync } from 'node:fs';
import { delimiter, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { guardedPath, removePath } from './processes.js';

export interface Program {
  /** Its name on the PATH. */
  readonly command: string;
  /** The package of Debian and Ubuntu that brings it. */
  readonly debianPackage: string;
  /** What needs the program, and in which version: the beginning of the error where it is missing. */
  readonly need: string;
}

/** The machine. Tests pass another one. */
export interface Machine {
  readonly env?: NodeJS.ProcessEnv;
  /** Whether this process may install packages. */
  readonly root?: boolean;
  /** The file that Debian asks whether a package may start its services. */
  readonly policy?: string;
  /** Between two attempts while another process holds a lock of apt. */
  readonly retryMilliseconds?: number;
}

/** For one run of apt-get, on a slow network and a slow disk. */
const INSTALL_MINUTES = 20;
/** For how long apt-get waits for the lock of dpkg. */
const LOCK_SECONDS = 600;
/** How many characters of what apt-get printed an error shows. */
const SHOWN = 1_000;

/** The path of a command, if it is on the PATH. */
export const findProgram = (command: string, env: NodeJS.ProcessEnv = process.env): string | undefined =>
  (env['PATH'] ?? '')
    .split(delimiter)
    .map((folder) => join(folder, command))
    .find((path) => {
      try {
        accessSync(path, constants.X_OK);
        return true;
      } catch {
        return false;
      }
    });

interface AptResult {
  readonly succeeded: boolean;
  readonly printed: string;
}

function runApt(args: readonly string[], env: NodeJS.ProcessEnv): Promise<AptResult> {
  return new Promise((resolve) => {
    // Packages are for all users of the machine, so the umask of this user must not apply.
    const umask = process.umask(0o022);
    // English, since its messages are read here. The `sbin` folders hold what dpkg itself needs.
    const child = spawn('apt-get', ['-o', `DPkg::Lock::Timeout=${LOCK_SECONDS}`, ...args], {
      env: {
        ...env,
        PATH: [env['PATH'], '/usr/sbin', '/sbin'].join(delimiter),
        DEBIAN_FRONTEND: 'noninteractive',
        LC_ALL: 'C',
      },
      stdio: ['ignore', 'pipe', 'pipe'],
      timeout: INSTALL_MINUTES * 60_000,
    });
    process.umask(umask);
    let printed = '';
    for (const output of [child.stdout, child.stderr])
      output.setEncoding('utf8').on('data', (text: string) => (printed = (printed + text).slice(-100_000)));
    child.once('error', ({ message }) => resolve({ succeeded: false, printed: message }));
    child.once('close', (code, signal) =>
      resolve({
        succeeded: code === 0,
        printed: signal === null ? printed : `${printed}\nended by ${signal} (at most ${INSTALL_MINUTES} minutes)`,
      }),
    );
  });
}

/** The locks of the package lists and of the downloads, which apt-get does not wait for. */
const isLocked = ({ succeeded, printed }: AptResult): boolean => !succeeded && /could not get lock/i.test(printed);

/** Runs apt-get, again as long as another process holds a lock. */
async function runAptWhenFree(
  args: readonly string[],
  { env = process.env, retryMilliseconds = 1_000 }: Machine,
): Promise<AptResult> {
  const end = performance.now() + LOCK_SECONDS * 1_000;
  for (;;) {
    const result = await runApt(args, env);
    if (!isLocked(result) || performance.now() > end) return result;
    await sleep(retryMilliseconds);
  }
}

async function install(debianPackage: string, machine: Machine): Promise<AptResult> {
  const args = ['install', '-y', '--no-install-recommends', debianPackage];
  const first = await runAptWhenFree(args, machine);
  if (first.succeeded) return first;
  // The package lists may be missing, or too old.
  const update = await runAptWhenFree(['update'], machine);
  const second = await runAptWhenFree(args, machine);
  return second.succeeded
    ? second
    : { succeeded: false, printed: `${update.succeeded ? '' : update.printed}${second.printed}` };
}

/** Runs `action` while no package may start a service: a Redis of the machine's own would take port 6379. */
async function withoutServices<T>(policy: string, action: () => Promise<T>): Promise<T> {
  try {
    writeFileSync(
      policy,
      '#!/bin/sh\n# Written by the tests of headgate while they install a package. They remove it afterwards.\nexit 101\n',
      { flag: 'wx', mode: 0o755 },
    );
  } catch {
    // The machine has a policy of its own, which applies; or it has no such folder, and so no services.
    return action();
  }
  guardedPath(policy);
  try {
    return await action();
  } finally {
    removePath(policy);
  }
}

/** Resolves with the path of a program: installs it where that is allowed, and otherwise rejects with what to do. */
export async function requireProgram(
  { command, debianPackage, need }: Program,
  machine: Machine = {},
): Promise<string> {
  const { env = process.env, root = process.getuid?.() === 0, policy = '/usr/sbin/policy-rc.d' } = machine;
  const found = findProgram(command, env);
  if (found !== undefined) return found;
  const advice = `${need} on the PATH. On Debian and Ubuntu: sudo apt-get install -y ${debianPackage}`;
  if (findProgram('apt-get', env) === undefined) throw new Error(advice);
  if (!root) throw new Error(`${advice} (only root can install it from here)`);
  console.log(`Installing ${debianPackage} with apt-get, since ${command} is missing`);
  const { succeeded, printed } = await withoutServices(policy, () => install(debianPackage, machine));
  const installed = findProgram(command, env);
  if (installed !== undefined) return installed;
  throw new Error(
    succeeded
      ? `${advice}. The package is installed, but ${command} is not on the PATH: ${env['PATH']}`
      : `${advice}. apt-get failed: ${printed.trim().slice(-SHOWN)}`,
  );
}
