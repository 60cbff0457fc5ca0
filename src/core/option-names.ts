/** The names of options: an unknown name is refused, with the name that the caller probably meant. */
import { printable } from './refusals.js';

/**
 * Throws if `options` has an own enumerable property that is not in `names`. The check reads no value, so it calls no
 * getter. Inherited properties are not checked: a library may have extended `Object.prototype`.
 *
 * @param where The call, as messages show it: `new Throttle`.
 * @throws {TypeError} An option is unknown. The message contains the nearest known name.
 */
export function checkOptionNames(where: string, options: object, names: readonly string[]): void {
  // Each call of `acquire` with options runs this loop. `for-in` and a plain comparison take half the time of
  // `Object.keys` and `includes`.
  next: for (const option in options) {
    for (let index = 0; index < names.length; index++) if (names[index] === option) continue next;
    if (Object.hasOwn(options, option)) throw unknownOption(where, option, names);
  }
}

/** Each option of `options` with a name in `names`. Every value is read once, also if it is inherited or a getter. */
export function pickOptions<T extends object, Name extends keyof T & string>(
  options: T,
  names: readonly Name[],
): Pick<T, Name> {
  return Object.fromEntries(names.map((name) => [name, options[name]])) as Pick<T, Name>;
}

function unknownOption(where: string, option: string, names: readonly string[]): TypeError {
  // Only headgate itself uses these two options.
  const known = names.filter((name) => name !== 'silent' && name !== 'stack');
  let nearest: string | undefined;
  let fewest = Infinity;
  for (const name of known) {
    // One edit for each four letters: a name with more edits is another word.
    const edits = countEdits(option.toLowerCase(), name.toLowerCase(), Math.ceil(name.length / 4));
    if (edits < fewest) [nearest, fewest] = [name, edits];
  }
  const advice = nearest === undefined ? `its options are ${known.join(', ')}` : `did you mean "${nearest}"?`;
  return new TypeError(`unknown option ${printable(option)} of ${where}; ${advice}`);
}

/**
 * The number of letters to insert, remove, replace, or swap with the next letter, that turns `a` into `b`; `Infinity`
 * if more than `most` such edits are needed.
 */
function countEdits(a: string, b: string, most: number): number {
  if (Math.abs(a.length - b.length) > most) return Infinity;
  if (a === b) return 0;
  const [restA, restB] = [a.slice(1), b.slice(1)];
  if (a[0] === b[0]) return countEdits(restA, restB, most);
  const isSwapped = a[0] === b[1] && a[1] === b[0];
  return (
    1 +
    Math.min(
      countEdits(restA, b, most - 1),
      countEdits(a, restB, most - 1),
      countEdits(restA, restB, most - 1),
      isSwapped ? countEdits(a.slice(2), b.slice(2), most - 1) : Infinity,
    )
  );
}
