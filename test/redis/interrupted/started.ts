/** Finds the descendants of a process, and checks whether they still run. */
import { execFileSync } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';

interface Status {
  readonly pid: number;
  readonly parent: number;
  /** The state of the process. It starts with Z for a dead process that its parent has not reaped. */
  readonly state: string;
}

function statusOf(pid: number): Status[] {
  try {
    // The name of the program, in parentheses, may contain any characters.
    const [state = '', parent] = readFileSync(`/proc/${pid}/stat`, 'utf8')
      .replace(/^.*\) /s, '')
      .split(' ');
    return [{ pid, parent: Number(parent), state }];
  } catch {
    return [];
  }
}

/** Lists all processes. On Linux, it works without the program `ps`, which minimal systems lack. */
function list(): Status[] {
  if (process.platform === 'linux')
    return readdirSync('/proc').flatMap((name) => (/^\d+$/.test(name) ? statusOf(Number(name)) : []));
  return execFileSync('ps', ['-A', '-o', 'pid=,ppid=,stat='], { encoding: 'utf8' })
    .trim()
    .split('\n')
    .map((line) => {
      const [pid, parent, state = ''] = line.trim().split(/\s+/);
      return { pid: Number(pid), parent: Number(parent), state };
    });
}

/** Returns the processes that still run. */
export function running(pids: readonly number[]): number[] {
  const alive = new Set(list().flatMap(({ pid, state }) => (/^[ZX]/.test(state) ? [] : [pid])));
  return pids.filter((pid) => alive.has(pid));
}

/** Returns the children of a process, their children, and so on. */
export function descendants(pid: number): number[] {
  const all = list();
  const found = [pid];
  for (const one of found) found.push(...all.flatMap(({ pid: child, parent }) => (parent === one ? [child] : [])));
  return found.slice(1);
}
