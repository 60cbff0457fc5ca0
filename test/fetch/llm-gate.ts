/** A gate for a language model, and what its API reports. */
import { type Clock, type Rate, Throttle } from 'headgate';

/** 1,000 tokens, which refill nothing during a test. */
export const also: Rate<'tokens'>[] = [{ name: 'tokens', capacity: 1_000, period: 1e12 + 1 }];

/** 100 requests, which refill nothing during a test, and those tokens. */
export const createLlm = (clock?: Clock): Throttle<'tokens'> => new Throttle(100, 0, 1e12 + 1, { clock, also });

/** The fields of a response that reports what remains. */
export const openaiHeaders = (requests: number, tokens: number): Record<string, string> => ({
  'x-ratelimit-remaining-requests': String(requests),
  'x-ratelimit-remaining-tokens': String(tokens),
});

/** The requests and the tokens that are left, without rounding errors. */
export const levels = (gate: Throttle<'tokens'>): [requests: number, tokens: number] => [
  Math.round(gate.tokens),
  Math.round(gate.levels.tokens),
];
