/** The controls of the playground. Each has a label, and a value in words that a screen reader speaks. */
import type { Range, State } from './state.js';

/** A control that shows its part of the state. */
export interface Control {
  readonly element: HTMLElement;
  show(state: State): void;
}

/** Creates an element with attributes and a text. */
export function create<K extends keyof HTMLElementTagNameMap>(
  name: K,
  attributes: Readonly<Record<string, string>>,
  text = '',
): HTMLElementTagNameMap[K] {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.textContent = text;
  return element;
}

/** A slider with its name and its value in words. */
export function slider(range: Range, change: (part: Partial<State>) => void): Control {
  const id = `pg-${range.name}`;
  const input = create('input', {
    type: 'range',
    id,
    min: String(range.min),
    max: String(range.max),
    step: String(range.step),
    autocomplete: 'off',
  });
  const output = create('output', { for: id });
  const head = create('div', { class: 'pg-head' });
  head.append(create('label', { for: id }, range.name), output);
  const element = create('div', { class: 'pg-slider' });
  element.append(head, input);
  input.addEventListener('input', () => change({ [range.name]: input.valueAsNumber }));
  return {
    element,
    show: (state) => {
      const value = state[range.name];
      const inapplicable = range.name === 'burst' && (state.window === 'sliding' || state.capacity === 0);
      const text = inapplicable ? 'not used' : range.describe(value);
      input.value = String(value);
      input.disabled = inapplicable;
      input.setAttribute('aria-valuetext', text);
      output.textContent = text;
    },
  };
}

/** A choice of one of several values. */
export function radios<K extends 'window' | 'workload'>(
  name: K,
  values: readonly State[K][],
  texts: Readonly<Record<State[K], string>>,
  change: (part: Partial<State>) => void,
): Control {
  const element = create('fieldset', {});
  element.append(create('legend', {}, name));
  const inputs = values.map((value) => {
    const input = create('input', { type: 'radio', name: `pg-${name}`, value, autocomplete: 'off' });
    const label = create('label', {});
    const text = texts[value];
    label.append(input, create('span', {}, name === 'window' ? text : `${value}: ${text}`));
    element.append(label);
    input.addEventListener('change', () => change({ [name]: value }));
    return input;
  });
  return {
    element,
    show: (state) => {
      for (const input of inputs) input.checked = input.value === state[name];
    },
  };
}

/** A button that copies a text, and reports the result beside itself. */
export function copyButton(text: string, read: () => string): HTMLElement {
  const button = create('button', { type: 'button' }, text);
  const report = create('span', { role: 'status', class: 'pg-copied' });
  button.addEventListener('click', () => {
    const done = navigator.clipboard?.writeText(read()) ?? Promise.reject(new Error('no clipboard'));
    done.then(
      () => (report.textContent = 'copied'),
      () => (report.textContent = 'the browser refuses to copy: select the text and copy it'),
    );
  });
  const element = create('span', { class: 'pg-copy' });
  element.append(button, report);
  return element;
}

/** A picture of `toSVG` with the colours of one theme: the page has a switch, and the picture follows the system. */
export function withTheme(svg: string, dark: boolean): string {
  return svg.replace('@media (prefers-color-scheme:dark)', dark ? '@media all' : '@media not all');
}
