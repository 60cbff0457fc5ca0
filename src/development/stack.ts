/** Finds the place of a call: the frames of its stack outside of headgate. */

/** The number of frames that are captured. Some of them belong to headgate. */
const CAPTURED = 40;
/** The number of frames that a place keeps. */
const KEPT = 10;
/** The longest text of a frame. A module from a `data:` URL has its whole text in its address. */
const MAX_LENGTH = 240;

/** The most stacks that are remembered. */
const REMEMBERED = 1_000;

/** The frames of earlier calls, by the positions of their functions. A source map makes the text of a stack slow. */
const remembered = new Map<string, readonly string[]>();

/** The frames of the present call, without the frames of headgate; the innermost frame first. */
export function captureFrames(): readonly string[] {
  const { stackTraceLimit } = Error;
  // If a program has frozen `stackTraceLimit`, the stack has fewer frames.
  const isRaised =
    typeof stackTraceLimit === 'number' &&
    stackTraceLimit < CAPTURED &&
    Reflect.set(Error, 'stackTraceLimit', CAPTURED);
  try {
    const positions = capturePositions();
    if (positions === '') return callerFrames(new Error().stack);
    const known = remembered.get(positions);
    if (known !== undefined) return known;
    const frames = callerFrames(new Error().stack);
    if (remembered.size >= REMEMBERED) remembered.clear();
    remembered.set(positions, frames);
    return frames;
  } catch {
    // A program may have replaced `Error.prepareStackTrace` by a function that throws.
    return [];
  } finally {
    if (isRaised) Reflect.set(Error, 'stackTraceLimit', stackTraceLimit);
  }
}

/** The part of a `CallSite` of V8 that is used. `getPosition` is the offset in the file. */
interface CallSite {
  getFileName?(): string | null | undefined;
  getPosition?(): number;
  isNative(): boolean;
}

/** Positions that identify the present stack. Empty on other engines than V8, and if a function has no file. */
function capturePositions(): string {
  const errors = Error as { prepareStackTrace?: unknown };
  const { prepareStackTrace } = errors;
  const hasOwn = Object.hasOwn(errors, 'prepareStackTrace');
  const toPositions = (_: unknown, sites: unknown): string => (Array.isArray(sites) ? positionsOf(sites) : '');
  if (!('captureStackTrace' in Error) || !Reflect.set(errors, 'prepareStackTrace', toPositions)) return '';
  try {
    const { stack } = new Error();
    // An engine that ignores `prepareStackTrace` returns the text.
    return stack?.startsWith(MARK) === true ? stack : '';
  } finally {
    if (hasOwn) Reflect.set(errors, 'prepareStackTrace', prepareStackTrace);
    else Reflect.deleteProperty(errors, 'prepareStackTrace');
  }
}

/** The first characters of positions. */
const MARK = 'positions ';

function positionsOf(sites: readonly CallSite[]): string {
  let text = MARK;
  for (const site of sites) {
    const file = site.getFileName?.();
    const position = site.getPosition?.();
    // Two functions from `eval` can have the same position.
    if (position === undefined || (typeof file !== 'string' && !site.isNative())) return '';
    text += `${file}:${position};`;
  }
  return text;
}

/** One line of a stack. */
interface Frame {
  /** The function and the position, as in `load (/app/jobs.js:12:5)`. */
  readonly text: string;
  /** The name of the function; empty if it has none. */
  readonly name: string;
  /** The file with forward slashes; empty for a function of the platform. */
  readonly file: string;
}

/**
 * The frames of `stack` that do not belong to headgate. The first frame must be a function of headgate.
 *
 * In an installed package, the path of a file shows that the file belongs to headgate. A bundle has its own code and
 * the code of headgate in one file, so there the names of classes and functions decide.
 */
export function callerFrames(stack: unknown): readonly string[] {
  const frames = parseStack(stack);
  const folder = ownFolder(frames[0]?.file ?? '');
  const others = frames.filter(({ file }) => !INSTALLED.test(file) && (folder === '' || !file.startsWith(folder)));
  return withoutBundledFrames(others)
    .filter(({ file }) => file !== '' && !PLATFORM.test(file))
    .slice(0, KEPT)
    .map(({ text }) => shorten(text));
}

/** A file of headgate in a folder of packages. */
const INSTALLED = /\/node_modules\/headgate\/(?:dist|src)\//;
/** A module of the platform. */
const PLATFORM = /^(?:node|bun|ext|internal):?/;

/** The folder of all files of headgate, from the file of this module; empty in a bundle. */
function ownFolder(file: string): string {
  return /^(.*\/(?:dist|src)\/)(?:cjs\/)?development\/[^/]+$/.exec(file)?.[1] ?? '';
}

/** The names of the functions of headgate that can be the outermost function of headgate in a stack. */
const OWN_NAMES = new RegExp(
  '^(?:async )?(?:new )?_?(?:' +
    '(?:Aids|EventPublisher|Throttle|KeyedThrottle|Resource|Limiter|RedisThrottle|RedisKeyedThrottle)\\d*\\.' +
    '|(?:captureFrames|mapItems|readItems|callFrom|throttledFetch)\\d*$)',
);

/** Removes the leading frames of headgate from the stack of a bundle. */
function withoutBundledFrames(frames: readonly Frame[]): readonly Frame[] {
  const end = frames.findIndex(({ file }) => file !== '' && file !== frames[0]?.file);
  const leading = end === -1 ? frames : frames.slice(0, end);
  return frames.slice(leading.findLastIndex(({ name }) => OWN_NAMES.test(name)) + 1);
}

/** The lines of a stack of V8 (`at load (file:1:2)`), and of other engines (`load@file:1:2`). */
function parseStack(stack: unknown): Frame[] {
  if (typeof stack !== 'string') return [];
  const frames: Frame[] = [];
  for (const line of stack.split('\n')) {
    const match = /^\s+at (?:(.+) \((.*)\)|(.*))$/.exec(line) ?? /^(?:(.*)@)((?:.*):\d+)$/.exec(line);
    if (match === null) continue;
    const [, name = '', location = match[3] ?? ''] = match;
    const position = location.replace(/^async /, '').replace(/^file:\/\/(?:\/(?=[A-Za-z]:))?/, '');
    const file = (/^(.*?):\d+(?::\d+)?$/.exec(position)?.[1] ?? '').replaceAll('\\', '/');
    frames.push({ text: name === '' ? position : `${name} (${position})`, name, file });
  }
  return frames;
}

function shorten(text: string): string {
  return text.length <= MAX_LENGTH ? text : `${text.slice(0, MAX_LENGTH / 2)}…${text.slice(-MAX_LENGTH / 2)}`;
}
