/** Programs that no npm package contains. On Debian and Ubuntu, root installs a missing program with apt-get. */
import { spawn } from 'node:child_process';
import { accessSync, constants, writeFileSync } from 'node:fs';
import { delimiter, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { guardedPath, removePath } from './processes.js';

export interface Program {
  /** The name on the PATH. */
  readonly command: string;
  /** The package of Debian and Ubuntu that contains the program. */
  readonly debianPackage: string;
  /** The start of the error for a missing program: which tests need the program, and in which version. */
  readonly need: string;
}

/** The machine. Tests pass a fake machine. */
export interface Machine {
  readonly env?: NodeJS.ProcessEnv;
  /** Whether this process may install packages. */
  readonly root?: boolean;
  /** The program that decides on Debian whether a package may start its services. */
  readonly policy?: string;
  /** The delay between two attempts while another process holds a lock of apt. */
  readonly retryMilliseconds?: number;
}

/** The limit for one run of apt-get, on a slow network and a slow disk. */
const INSTALL_MINUTES = 20;
/** The time for which apt-get waits for the lock of dpkg. */
const LOCK_SECONDS = 600;
/** The number of characters of the output of apt-get that an error contains. */
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
    // English, because this file parses the messages. dpkg needs the programs of the `sbin` folders.
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

/** True if apt-get failed on the lock of the package lists or of the downloads, for which it does not wait. */
const isLocked = ({ succeeded, printed }: AptResult): boolean => !succeeded && /could not get lock/i.test(printed);

/** Runs apt-get, and repeats it while another process holds a lock. */
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

/** Runs `action` while no package may start a service: an installed Redis service would take port 6379. */
async function withoutServices<T>(policy: string, action: () => Promise<T>): Promise<T> {
  try {
    writeFileSync(
      policy,
      '#!/bin/sh\n# Written by the tests of headgate during the installation of a package.\nexit 101\n',
      { flag: 'wx', mode: 0o755 },
    );
  } catch {
    // Either the machine has a policy already, or it has no such folder and therefore no services.
    return action();
  }
  guardedPath(policy);
  try {
    return await action();
  } finally {
    removePath(policy);
  }
}

/** Resolves with the path of a program. Installs a missing program if allowed, and otherwise rejects with advice. */
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
