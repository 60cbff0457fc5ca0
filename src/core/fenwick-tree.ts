/**
 * A list of numbers with fast prefix sums. Changing one number and summing all numbers before an index both take
 * logarithmic time. Source: P. M. Fenwick, "A new data structure for cumulative frequency tables", 1994.
 */
export class FenwickTree {
  /** The element i is the sum of the numbers from i - (i & -i) + 1 to i, counted from 1. The element 0 is unused. */
  readonly #sums: number[];

  /** Creates `length` numbers, each 0. */
  constructor(length: number) {
    this.#sums = Array.from({ length: length + 1 }, () => 0);
  }

  /** Appends a 0. */
  append(): void {
    const index = this.#sums.length;
    this.#sums.push(this.sumBefore(index - 1) - this.sumBefore(index - (index & -index)));
  }

  /** Adds `difference` to the number at `index`. */
  add(index: number, difference: number): void {
    for (let place = index + 1; place < this.#sums.length; place += place & -place)
      (this.#sums[place] as number) += difference;
  }

  /** The sum of the numbers before `index`. */
  sumBefore(index: number): number {
    let sum = 0;
    for (let place = index; place > 0; place -= place & -place) sum += this.#sums[place] as number;
    return sum;
  }
}
