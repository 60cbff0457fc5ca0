/** Which processes a process has started, and whether one of them still runs. */
import { execFileSync } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';

interface Status {
  readonly pid: number;
  readonly parent: number;
  /** Its first letter is Z where the process has ended and its parent has not noticed yet. */
  readonly state: string;
}

function statusOf(pid: number): Status[] {
  try {
    // The name of the program, in parentheses, may contain anything.
    const [state = '', parent] = readFileSync(`/proc/${pid}/stat`, 'utf8')
      .replace(/^.*\) /s, '')
      .split(' ');
    return [{ pid, parent: Number(parent), state }];
  } catch {
    return [];
  }
}

/** All processes. On Linux without `ps`, which a small machine lacks. */
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

/** Those of the processes that run. */
export function running(pids: readonly number[]): number[] {
  const alive = new Set(list().flatMap(({ pid, state }) => (/^[ZX]/.test(state) ? [] : [pid])));
  return pids.filter((pid) => alive.has(pid));
}

/** The processes that a process has started, and those that they have started in turn. */
export function descendants(pid: number): number[] {
  const all = list();
  const found = [pid];
  for (const one of found) found.push(...all.flatMap(({ pid: child, parent }) => (parent === one ? [child] : [])));
  return found.slice(1);
}
