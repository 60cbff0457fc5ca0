/** The argument of the step script, for tests: the header and the words of the commands. */

/** The words of the header, in order. The rates are several words. */
export interface Header {
  readonly owner: string;
  readonly number: string;
  readonly ttl: string;
  readonly limit: string;
  /** Empty for none. */
  readonly flags: string;
  /** The clock of a test; empty for the clock of the server. */
  readonly clock: string;
  readonly confirmed: string;
  readonly maxQueue: string;
  readonly rate: string;
}

const NONE = '-';

/** The argument of one batch. */
export function batchArgument(header: Header, words: readonly string[]): string {
  const { owner, number, ttl, limit, flags, clock, confirmed, maxQueue, rate } = header;
  const first = [owner, number, ttl, limit, flags || NONE, clock || NONE, confirmed, maxQueue, rate].join(' ');
  return [first, ...words].map((line) => `${line}\n`).join('');
}

/** Whether these are the arguments of the step script. Other scripts have no line feed in their first argument. */
export const isBatch = (args: readonly string[]): boolean => args[0]?.includes('\n') === true;

export function headerOf([argument = '']: readonly string[]): Header {
  const [first = ''] = argument.split('\n', 1);
  const [
    owner = '',
    number = '',
    ttl = '',
    limit = '',
    flags = '',
    clock = '',
    confirmed = '',
    maxQueue = '',
    ...rate
  ] = first.split(' ');
  const given = (word: string): string => (word === NONE ? '' : word);
  return {
    owner,
    number,
    ttl,
    limit,
    flags: given(flags),
    clock: given(clock),
    confirmed,
    maxQueue,
    rate: rate.join(' '),
  };
}

/** The words of all commands of a batch, by the arguments of the script. */
export const wordsOf = ([argument = '']: readonly string[]): string[] => argument.split('\n').slice(1, -1);
