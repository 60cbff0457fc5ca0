/**
 * The costs of calls as texts for the script: `[slots/]cost[;name=cost]…`, see `scripts/rates.lua`. This file alone
 * knows the text.
 */
import type { Terms } from '../core/cost.js';

/** A cost as the script reads it. */
export type Charge = number | string;

/** A cost that {@link decodeCharge} has read. */
export interface DecodedCharge {
  readonly cost: number;
  /** By the names of the rates; `undefined` without names. */
  readonly costs: Readonly<Record<string, number>> | undefined;
  readonly slots: number;
}

/** Escapes the name of a rate: letters, digits and `_.-` stay, any other character becomes `%` and its number. */
export const escapeName = (name: string): string =>
  name.replaceAll(/[^\w.-]/g, (unit) => `%${unit.charCodeAt(0).toString(16).padStart(4, '0')}`);

/** The name that {@link escapeName} has escaped. */
export const readName = (text: string): string =>
  text.replaceAll(/%([\da-f]{4})/g, (_, code: string) => String.fromCharCode(Number.parseInt(code, 16)));

/** The cost of a call as the script reads it. */
export function encodeCharge(cost: number, terms: Terms | undefined, names: readonly string[]): Charge {
  if (terms === undefined) return cost;
  const charge = encodeCosts(terms.costs, names);
  return terms.slots === 1 ? charge : `${terms.slots}/${charge}`;
}

/** A vector of costs: the cost of the rates without a name first. */
export function encodeCosts(costs: readonly number[], names: readonly string[]): Charge {
  const [main = 0, ...named] = costs;
  // A number alone is the cost for every rate.
  if (named.every((each) => each === main)) return main;
  const entries = named.map((each, index) => (each === 0 ? '' : `;${escapeName(names[index] as string)}=${each}`));
  return `${main}${entries.join('') || ';'}`;
}

/** The levels of a correction: a cost whose first value is empty if the rates without a name stay as they are. */
export function encodeLevels(levels: readonly (number | undefined)[], names: readonly string[]): string {
  const [main, ...named] = levels.map((each) => (each === undefined ? undefined : Math.min(each, Number.MAX_VALUE)));
  const entries = named.map((each, index) =>
    each === undefined ? '' : `;${escapeName(names[index] as string)}=${each}`,
  );
  return `${main ?? ''}${entries.join('')}`;
}

/** Whether a field of an event is a cost. */
export const isCharge = (text: string): boolean =>
  /^(\d+\/)?[^\s;=/]+(;|(;[\w.%-]+=[^\s;=/]+)+)?$/.test(text) &&
  text.split(/[/;]/).every((part) => Number(part.slice(part.indexOf('=') + 1)) >= 0);

/** Reads a cost that the script has printed. */
export function decodeCharge(text: string, names: readonly string[]): DecodedCharge {
  const [slots, rest = text] = text.includes('/') ? (text.split('/') as [string, string]) : ['1'];
  const [main = '', ...entries] = rest.split(';');
  const cost = Number(main);
  const others = entries.length === 0 ? cost : 0;
  const costs = new Map(names.map((name) => [name, others]));
  for (const entry of entries) {
    const [name = '', value] = entry.split('=');
    if (value !== undefined) costs.set(readName(name), Number(value));
  }
  return { cost, costs: costs.size === 0 ? undefined : Object.fromEntries(costs), slots: Number(slots) };
}

/** The slots of a grant, by its record. */
export function slotsOf(item: string): readonly number[] {
  const text = item.slice(0, item.indexOf(' ') + 1).trim();
  return text === '' || text === '0' ? [] : text.split(',').map(Number);
}

/** Whether a grant has one slot. Only such a grant can be handed on. */
export const hasOneSlot = ({ slot, item }: { readonly slot: number; readonly item: string }): boolean =>
  slot > 0 && !item.includes(',');
