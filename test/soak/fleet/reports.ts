/**
 * The reports of a worker process, one line each, in a file that survives `kill -9`. Instants are milliseconds of the
 * monotonic clock, which all processes of a machine share. A call has a number that no other call of a history has.
 */
import { readFileSync } from 'node:fs';

/**
 * The cost that names a call in the trace of the server. Without a rate it has no other effect. Most of these costs are
 * fractions: the script must read the point of a fraction as a part of the number.
 */
export const costOf = (call: number): number => call / 4;
export const callOf = (cost: string | undefined): number => Number(cost) * 4;

export type Report =
  | { readonly kind: 'called'; readonly call: number; readonly at: number }
  /** The holder has read a signal that was not aborted, after this instant. `item`: the record of the grant. */
  | { readonly kind: 'held'; readonly call: number; readonly at: number; readonly slot: number; readonly item: string }
  /** The end of a hold; `at` is the last instant after which the holder has read a signal that was not aborted. */
  | { readonly kind: 'released' | 'lost'; readonly call: number; readonly at: number }
  | { readonly kind: 'aborted'; readonly call: number; readonly at: number }
  | { readonly kind: 'failed'; readonly call: number; readonly at: number; readonly error: string };

export function writeReport(report: Report): string {
  const { kind, call, at } = report;
  const words = [kind, call, at.toFixed(4)];
  if (report.kind === 'held') words.push(report.slot, report.item);
  if (report.kind === 'failed') words.push(report.error);
  return `${words.join(' ')}\n`;
}

export function readReports(file: string): Report[] {
  const lines = readFileSync(file, 'utf8').split('\n');
  // The end of the last line may be missing.
  lines.pop();
  return lines.map(readReport);
}

function readReport(line: string): Report {
  const [kind, call, at, ...rest] = line.split(' ');
  const report = { kind, call: Number(call), at: Number(at) };
  if (kind === 'held') Object.assign(report, { slot: Number(rest[0]), item: rest.slice(1).join(' ') });
  if (kind === 'failed') Object.assign(report, { error: rest.join(' ') });
  return report as Report;
}
