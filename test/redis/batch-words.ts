/** The commands in the arguments of the step script: their words, each with a line feed at its end. */

/** The index of the commands in the arguments of the step script. Other scripts have fewer arguments. */
export const COMMANDS = 9;

export const joinWords = (words: readonly string[]): string => words.map((word) => `${word}\n`).join('');

/** The words of all commands of a batch, by the arguments of the script. */
export const wordsOf = (args: readonly string[]): string[] => (args[COMMANDS] ?? '').split('\n').slice(0, -1);
