/** Applies a limit to a request of Nest, by the decision that all adapters of `headgate/http` share. */
import { type ExecutionContext, Logger } from '@nestjs/common';
import { checkObject } from '../core/validation.js';
import { withoutStack } from '../core/refusals.js';
import { warnOnce } from '../core/warning.js';
import { expressAdapter } from '../http/adapters/express.js';
import { fastifyAdapter } from '../http/adapters/fastify.js';
import { createDecision } from '../http/decide.js';
import type { FrameworkAdapter } from '../http/framework-adapter.js';
import type { LimitOptions, Refusal } from '../http/options.js';
import { exceptionFor } from './exception.js';
import type { HttpMessages, LimitSettings } from './options.js';

type PlatformAdapter = FrameworkAdapter<[request: object, response: object]>;

/** One request at one guard. */
interface Call extends HttpMessages {
  readonly context: ExecutionContext;
  readonly platform: PlatformAdapter;
  /** The refusal of the gate. */
  refusal?: Refusal;
}

/** Admits a request, or rejects with an `HttpException`. A failure of the gate rejects with the gate's error. */
export type Admission = (context: ExecutionContext, messages: HttpMessages) => Promise<void>;

const logger = new Logger('headgate');

/** The adapter of the platform, by the request: Fastify wraps Node's request, and Express extends it. */
function platformOf({ request }: HttpMessages): PlatformAdapter {
  const { raw } = request as { raw?: unknown };
  return Object(raw) === raw ? fastifyAdapter : expressAdapter;
}

const adapter: FrameworkAdapter<[Call]> = {
  name: 'a limit of HeadgateModule',
  ip: ({ platform, request, response }) => platform.ip(request, response),
  socketAddress: ({ platform, request, response }) => platform.socketAddress?.(request, response),
  user: ({ platform, request, response }) => platform.user(request, response),
  params: ({ platform, request, response }) => platform.params(request, response),
  property: (name, { platform, request, response }) => platform.property(name, request, response),
  header: (name, { platform, request, response }) => platform.header(name, request, response),
  method: ({ platform, request, response }) => platform.method(request, response),
  url: ({ platform, request, response }) => platform.url(request, response),
  requestObjects: ({ platform, request, response }) => platform.requestObjects(request, response),
  waitForTurn: ({ platform, request, response }) => platform.waitForTurn?.(request, response),
  isClosed: ({ platform, request, response }) => platform.isClosed(request, response),
  isSent: ({ platform, request, response }) => platform.isSent(request, response),
  onClose: (listener, { platform, request, response }) => platform.onClose(listener, request, response),
  onHandlerFinish: (listener, { platform, request, response }) =>
    platform.onHandlerFinish?.(listener, request, response),
  setHeaders,
  // An exception filter responds, with the status of the exception.
  prepareRefusal: () => () => false,
  logError: (error) => logger.error(error),
};

function setHeaders(fields: Readonly<Record<string, string | string[]>>, call: Call): void {
  call.platform.setHeaders(fields as Readonly<Record<string, string>>, call.request, call.response);
}

/**
 * Creates the function that applies a limit.
 *
 * @throws {RangeError | TypeError} An option is out of range.
 */
export function createAdmission(settings: LimitSettings): Admission {
  const decide = createDecision<[Call]>(optionsForCalls(settings), adapter);
  const countsUsers = settings.key === 'user' || settings.key === 'user_or_ip';
  return async function admit(context, messages) {
    const call: Call = { ...messages, context, platform: platformOf(messages) };
    if (countsUsers) watchForLateUser(call);
    const verdict = await decide(call);
    if (verdict.allowed) return setHeaders(verdict.fields, call);
    throw withoutStack(() =>
      exceptionFor(verdict.reply, call.refusal, verdict.fields, (fields) => setHeaders(fields, call)),
    );
  };
}

/** The options for the decision: the functions of the options receive the context. */
function optionsForCalls(settings: LimitSettings): LimitOptions<[Call]> {
  checkObject('options', settings);
  const { key, cost, skip, onLimited } = settings;
  return {
    ...settings,
    key: typeof key === 'function' ? ({ context }: Call) => key(context) : key,
    cost: typeof cost === 'function' ? ({ context }: Call) => cost(context) : cost,
    skip: typeof skip === 'function' ? ({ context }: Call) => skip(context) : skip,
    onLimited:
      onLimited === undefined || onLimited === 'throw' || typeof onLimited === 'function'
        ? (refusal: Refusal, call: Call) => {
            call.refusal = refusal;
            return typeof onLimited === 'function' ? onLimited(refusal, call.context) : undefined;
          }
        : onLimited,
  } as LimitOptions<[Call]>;
}

/** Warns, once for the process, if a guard authenticates the user after a limit has counted the user's address. */
function watchForLateUser(call: Call): void {
  const { platform, request, response } = call;
  const hasUser = (): boolean => Boolean(platform.user(request, response));
  if (hasUser()) return;
  platform.onClose(
    () => {
      if (hasUser())
        warnOnce(
          'HEADGATE_LATE_USER',
          `The limit of ${call.context.getClass().name}.${call.context.getHandler().name} has the key "user", but it ` +
            'ran before authentication and counted the address. Register the guard that authenticates before ' +
            'LimitGuard; on a route, write @Limit above @UseGuards: Nest runs the lowest decorator first',
        );
    },
    request,
    response,
  );
}
