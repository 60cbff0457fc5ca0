/**
 * In each process that runs tests: it ends when Vitest does. Otherwise it would run on, for as long as its tests take,
 * after a signal that reaches Vitest alone.
 */
process.once('disconnect', () => process.exit(1));
