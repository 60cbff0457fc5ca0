/** Mutants that no test can or need notice, each with the reason. `run.ts` holds the list against the report. */

interface Survivor {
  /** Of `src`. */
  readonly file: string;
  /** The line that is changed, or the first of them. */
  readonly line: string;
  /** What becomes what. */
  readonly changes: readonly string[];
  readonly reason: string;
}

export const survivors: readonly Survivor[] = [
  {
    file: 'headers',
    line: `const bare = text.replaceAll(/"(?:[^"\\\\]|\\\\.?)*(?:"|$)/g, '');`,
    changes: [`'' → "Stryker was here!"`],
    reason: 'Equivalent: whatever stands in place of a quoted name has no comma, semicolon or "reset=" in it.',
  },
  {
    file: 'headers',
    line: `if (text === null) return undefined;`,
    changes: ['text === null → false'],
    reason: 'Equivalent: what matches no form of a date is none, and "null" does not. The line is for the types.',
  },
  {
    file: 'headers',
    line: `const { day = '', month = '', year = '', time = '' } = parts;`,
    changes: [`'' → "Stryker was here!"`],
    reason: 'Never used: each of the expressions has all four groups. They are for the types.',
  },
  {
    file: 'headers',
    line: `return /^\\d+(?:\\.\\d+)?$/.test(text ?? '') ? Math.min(MOST, Number(text)) : undefined;`,
    changes: [`'' → "Stryker was here!"`],
    reason: 'Equivalent: neither is a number.',
  },
];
