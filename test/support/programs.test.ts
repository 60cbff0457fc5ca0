/** The installation of missing programs, tested with a fake `apt-get`. */
import { chmodSync, existsSync, mkdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it, onTestFinished, vi } from 'vitest';
import { removePath, temporaryFolder } from './processes.js';
import { findProgram, type Machine, requireProgram } from './programs.js';

const server = {
  command: 'redis-server',
  debianPackage: 'redis-server',
  need: 'The tests need redis-server 6.2 or later',
};
const ADVICE =
  'The tests need redis-server 6.2 or later on the PATH. On Debian and Ubuntu: sudo apt-get install -y redis-server';

beforeEach(() => void vi.spyOn(console, 'log').mockImplementation(() => {}));
afterEach(() => vi.restoreAllMocks());

interface FakeMachine extends Required<Machine> {
  readonly folder: string;
  /** The arguments of the calls of apt-get, in order. */
  calls(): string[];
}

/**
 * A machine without redis-server, whose PATH is one folder. Its `apt-get` records its arguments, and runs `script` with
 * the number of the call as `$n`. In `script`, `put` puts redis-server on the PATH.
 */
function fakeMachine(script?: string): FakeMachine {
  const folder = temporaryFolder('headgate-programs-');
  onTestFinished(() => removePath(folder));
  const path = join(folder, 'bin');
  mkdirSync(path);
  for (const tool of ['sh', 'cat', 'chmod', 'mkdir', 'rmdir', 'sleep', 'ls', 'env'])
    symlinkSync(findProgram(tool) as string, join(path, tool));
  if (script !== undefined) {
    writeFileSync(
      join(path, 'apt-get'),
      `#!${path}/sh
cd '${folder}'
echo "$*" >> calls
n=0
while read -r _; do n=$((n + 1)); done < calls
put() { echo '#!/bin/sh' > bin/redis-server; chmod +x bin/redis-server; }
${script}
`,
    );
    chmodSync(join(path, 'apt-get'), 0o755);
  }
  const calls = join(folder, 'calls');
  return {
    folder,
    env: { PATH: path, HOME: folder },
    root: true,
    policy: join(folder, 'policy-rc.d'),
    retryMilliseconds: 20,
    calls: () => (existsSync(calls) ? readFileSync(calls, 'utf8').trim().split('\n') : []),
  };
}

const INSTALL = '-o DPkg::Lock::Timeout=600 install -y --no-install-recommends redis-server';
const UPDATE = '-o DPkg::Lock::Timeout=600 update';

describe('a missing redis-server (FAULTS 1)', () => {
  it('is installed once, by a command that waits for the lock of dpkg', async () => {
    const machine = fakeMachine('put');
    const path = join(machine.folder, 'bin/redis-server');
    expect(await requireProgram(server, machine)).toBe(path);
    expect(await requireProgram(server, machine)).toBe(path);
    expect(machine.calls()).toEqual([INSTALL]);
    expect(console.log).toHaveBeenCalledExactlyOnceWith(
      'Installing redis-server with apt-get, since redis-server is missing',
    );
  });

  it('is installed at the second attempt, after an update of the missing package lists', async () => {
    const machine = fakeMachine(
      'case $n in 1) echo "E: Unable to locate package redis-server" >&2; exit 100;; 3) put;; esac',
    );
    await requireProgram(server, machine);
    expect(machine.calls()).toEqual([INSTALL, UPDATE, INSTALL]);
  });

  it.each(['/var/lib/apt/lists/lock', '/var/cache/apt/archives/lock', '/var/lib/dpkg/lock-frontend'])(
    'is installed when another process releases the lock %s',
    async (lock) => {
      const machine = fakeMachine(
        `held='It is held by process 7 (apt-get)'\n` +
          `[ $n -lt 4 ] && { echo "E: Could not get lock ${lock}. $held" >&2; exit 100; }\nput`,
      );
      await requireProgram(server, machine);
      expect(machine.calls()).toEqual([INSTALL, INSTALL, INSTALL, INSTALL]);
    },
  );

  it('is installed by several processes at the same time', async () => {
    const machine = fakeMachine(
      'mkdir lock 2>&- || { echo "E: Could not get lock /var/lib/apt/lists/lock" >&2; exit 100; }\n' +
        'sleep 0.2; put; rmdir lock',
    );
    const paths = await Promise.all([1, 2, 3].map(() => requireProgram(server, machine)));
    expect(new Set(paths)).toEqual(new Set([join(machine.folder, 'bin/redis-server')]));
    expect(existsSync(machine.policy)).toBe(false);
  });

  it('is installed without a prompt, in English, with the folders that dpkg needs, for all users', async () => {
    const machine = fakeMachine('env > env; umask > umask; read -r line || echo closed > input; put');
    const umask = process.umask(0o077);
    try {
      await requireProgram(server, machine);
      expect(process.umask()).toBe(0o077);
    } finally {
      process.umask(umask);
    }
    const written = (name: string): string => readFileSync(join(machine.folder, name), 'utf8');
    expect(written('env').split('\n')).toEqual(
      expect.arrayContaining([
        'DEBIAN_FRONTEND=noninteractive',
        'LC_ALL=C',
        `PATH=${machine.env['PATH']}:/usr/sbin:/sbin`,
      ]),
    );
    expect([written('umask').trim(), written('input').trim()]).toEqual(['0022', 'closed']);
  });

  it('is installed under a policy that forbids services, which is removed afterwards', async () => {
    const machine = fakeMachine('./policy-rc.d redis-server start; echo $? > answer; put');
    await requireProgram(server, machine);
    expect(readFileSync(join(machine.folder, 'answer'), 'utf8')).toBe('101\n');
    expect(existsSync(machine.policy)).toBe(false);
  });

  it('is installed without a change to an existing policy', async () => {
    const machine = fakeMachine('put');
    writeFileSync(machine.policy, 'own');
    await requireProgram(server, machine);
    expect(readFileSync(machine.policy, 'utf8')).toBe('own');
  });
});

describe('the error for a missing redis-server contains advice (FAULTS 1)', () => {
  it('names the package on a machine without apt-get', async () => {
    await expect(requireProgram(server, fakeMachine())).rejects.toThrow(new Error(ADVICE));
  });

  it('explains that only root can install the package', async () => {
    const machine = { ...fakeMachine('put'), root: false };
    await expect(requireProgram(server, machine)).rejects.toThrow(
      new Error(`${ADVICE} (only root can install it from here)`),
    );
    expect(machine.calls()).toEqual([]);
  });

  it('contains the output of a failed apt-get, and the policy is removed', async () => {
    const machine = fakeMachine(
      'case $n in 2) echo "W: Failed to fetch the lists";; *) echo "E: No space left on device";; esac >&2; exit 100',
    );
    await expect(requireProgram(server, machine)).rejects.toThrow(
      `${ADVICE}. apt-get failed: W: Failed to fetch the lists\nE: No space left on device`,
    );
    expect(existsSync(machine.policy)).toBe(false);
  });

  it('shows the PATH if the package is installed and its program is not found', async () => {
    const machine = fakeMachine('exit 0');
    await expect(requireProgram(server, machine)).rejects.toThrow(
      `${ADVICE}. The package is installed, but redis-server is not on the PATH: ${machine.env['PATH']}`,
    );
  });
});
