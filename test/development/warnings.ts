/** The process warnings of headgate that are emitted while a function runs. */
interface Warning extends Error {
  readonly code: string;
  readonly detail?: string;
}

export async function warningsOf(fn: () => Promise<unknown>): Promise<Warning[]> {
  const warnings: Warning[] = [];
  const listen = (warning: Error): void => {
    if (warning.name === 'HeadgateWarning') warnings.push(warning as Warning);
  };
  process.on('warning', listen);
  try {
    await fn();
    // A process emits its warnings in the next tick.
    await new Promise((resolve) => void setImmediate(resolve));
    return warnings;
  } finally {
    process.off('warning', listen);
  }
}
