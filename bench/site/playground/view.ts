/**
 * The page of the playground: controls, the picture, a summary for screen readers and the code. One loop does all work.
 * It simulates the newest settings, or advances the time by a step, and then lets the browser draw.
 */
import { toSVG } from 'headgate/testing';
import { type Control, copyButton, create, radios, slider, withTheme } from './controls.js';
// oxlint-disable-next-line import/no-unassigned-import -- a style sheet
import './playground.css';
import { simulate, type Simulation, summarize } from './simulation.js';
import {
  codeOf,
  formatState,
  MAX_TIME,
  MIN_TIME,
  PAUSE_SECONDS,
  parseState,
  RANGES,
  type State,
  WINDOWS,
  withPause,
  WORKLOAD_TEXT,
  WORKLOADS,
} from './state.js';

/** The seconds that pass after a press of a button, and the seconds of one step. */
const RUN_ON = 4;
const STEP = 0.2;
const FRAME_MS = 60;
/** The seconds that the picture shows: the last ones of a longer run. */
const SHOWN = 12;
const MIN_WIDTH = 360;
const MAX_WIDTH = 900;

/** Puts the playground into `root`. Returns a function that stops it. */
export function mount(root: Element): () => void {
  const playground = new Playground(root);
  return () => playground.stop();
}

class Playground {
  #state: State = parseState(location.search);
  #simulation: Simulation | undefined;
  /** The settings have changed since the simulation began. */
  #stale = true;
  /** The instant from which the next simulation runs in steps. */
  #from = Infinity;
  #busy = false;
  #stopped = false;
  readonly #controls: Control[];
  readonly #picture = create('div', { class: 'pg-picture' });
  readonly #summary = create('p', { class: 'pg-summary', role: 'status' });
  readonly #code = create('code', {});
  readonly #runOn = create('button', { type: 'button' }, `Run ${RUN_ON} s more`);
  readonly #pause = create('button', { type: 'button', class: 'pg-primary' }, `Pause the gate for ${PAUSE_SECONDS} s`);
  readonly #observers: { disconnect(): void }[];

  constructor(root: Element) {
    const change = (part: Partial<State>): void => this.#change(part);
    const sliders = RANGES.map((range) => slider(range, change));
    const choices = [
      radios('window', WINDOWS, { bucket: 'token bucket', sliding: 'sliding window' }, change),
      radios('workload', WORKLOADS, WORKLOAD_TEXT, change),
    ];
    this.#controls = [...sliders, ...choices];
    const startOver = create('button', { type: 'button' }, 'Start over');
    this.#pause.addEventListener('click', () => this.#pauseNow());
    this.#runOn.addEventListener('click', () => this.#runMore());
    startOver.addEventListener('click', () => this.#change({ time: MIN_TIME, pauses: [] }));
    const form = create('form', { class: 'pg-controls', 'aria-label': 'Settings of the gate' });
    form.addEventListener('submit', (event) => event.preventDefault());
    const group = create('div', { class: 'pg-sliders' });
    group.append(...sliders.map(({ element }) => element));
    form.append(group, ...choices.map(({ element }) => element));
    const buttons = create('div', { class: 'pg-buttons' });
    buttons.append(this.#pause, this.#runOn, startOver);
    const code = create('pre', { tabindex: '0', 'aria-label': 'The code of this gate' });
    code.append(this.#code);
    const copies = create('div', { class: 'pg-buttons' });
    copies.append(
      copyButton('Copy the code', () => this.#code.textContent ?? ''),
      copyButton('Copy a link to this state', () => location.href),
    );
    const result = create('div', { class: 'pg-result' });
    result.append(buttons, this.#picture, this.#summary);
    const program = create('div', { class: 'pg-program' });
    program.append(code, copies);
    const grid = create('div', { class: 'pg' });
    grid.append(form, result, program);
    root.replaceChildren(grid);

    const theme = new MutationObserver(() => this.#draw());
    theme.observe(document.documentElement, { attributes: true, attributeFilter: ['class'] });
    const width = new ResizeObserver(() => this.#draw());
    width.observe(this.#picture);
    this.#observers = [theme, width];
    this.#show();
    void this.#work();
  }

  stop(): void {
    this.#stopped = true;
    for (const observer of this.#observers) observer.disconnect();
  }

  #change(part: Partial<State>): void {
    // The address has the ranges of all values, so both ways to a state go through one check.
    this.#state = parseState(formatState({ ...this.#state, ...part }));
    this.#stale = true;
    this.#show();
    void this.#work();
  }

  #pauseNow(): void {
    const simulation = this.#simulation;
    if (simulation === undefined || this.#stale) return;
    // A new simulation, and not a pause of this one: a link to this state must show the same picture.
    this.#from = simulation.now;
    this.#state = withPause(this.#state, simulation.now);
    this.#stale = true;
    this.#runMore();
  }

  #runMore(): void {
    const from = this.#simulation?.now ?? this.#state.time;
    const time = Math.min(MAX_TIME, Math.round((from + RUN_ON) * 100) / 100);
    this.#state = { ...this.#state, time };
    this.#show();
    void this.#work();
  }

  /** Advances the simulation and draws it, until the picture shows the newest state. */
  async #work(): Promise<void> {
    if (this.#busy) return;
    this.#busy = true;
    while (!this.#stopped) {
      const current = this.#simulation;
      if (this.#stale || current === undefined) {
        this.#stale = false;
        const from = this.#from;
        this.#from = Infinity;
        this.#simulation = await simulate(this.#state, Math.min(from, this.#state.time));
      } else if (current.now < this.#state.time) {
        const rest = this.#state.time - current.now;
        await current.advance(isStill() || rest < 1.5 * STEP ? rest : STEP);
      } else break;
      this.#draw();
      await new Promise((resolve) => setTimeout(resolve, FRAME_MS));
    }
    this.#busy = false;
    if (this.#stopped || this.#simulation === undefined) return;
    this.#summary.textContent = summarize(this.#simulation);
    try {
      history.replaceState(history.state, '', `${location.pathname}${formatState(this.#state)}${location.hash}`);
    } catch {
      // A browser limits how often a page may change its address. The next change writes the address again.
    }
  }

  /** Shows the state in the controls and in the code. */
  #show(): void {
    for (const control of this.#controls) control.show(this.#state);
    this.#code.textContent = codeOf(this.#state);
    const ended = this.#state.time >= MAX_TIME;
    for (const button of [this.#pause, this.#runOn]) button.setAttribute('aria-disabled', String(ended));
  }

  #draw(): void {
    const simulation = this.#simulation;
    if (simulation === undefined || this.#stopped) return;
    const width = Math.round(Math.min(MAX_WIDTH, Math.max(MIN_WIDTH, this.#picture.clientWidth)));
    const svg = toSVG(simulation.trace, {
      title: 'What the gate does',
      since: Math.max(0, simulation.now - SHOWN),
      until: simulation.now,
      width,
    });
    this.#picture.innerHTML = withTheme(svg, document.documentElement.classList.contains('dark'));
  }
}

/** Whether the reader has asked for less motion. Then the time passes in one step. */
function isStill(): boolean {
  return matchMedia('(prefers-reduced-motion: reduce)').matches;
}
