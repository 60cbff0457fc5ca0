/**
 * Ends each worker process together with Vitest. After a signal that reaches Vitest alone, a worker would otherwise run
 * its tests to the end.
 */
process.once('disconnect', () => process.exit(1));
