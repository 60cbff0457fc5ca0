/**
 * Applications of Nest for the checks. The checks use no test runner, so a program can run them with any version of
 * Nest: see `program.ts`.
 */
import {
  type CanActivate,
  type ExecutionContext,
  type INestApplication,
  Injectable,
  type LoggerService,
  Module,
  type ModuleMetadata,
  type Provider,
} from '@nestjs/common';
import { APP_GUARD, NestFactory } from '@nestjs/core';
import { ExpressAdapter, type NestExpressApplication } from '@nestjs/platform-express';
import { FastifyAdapter } from '@nestjs/platform-fastify';
import { HeadgateModule, type HeadgateOptions, LimitGuard } from 'headgate/nest';

export type Platform = 'express' | 'fastify';

export interface Site {
  readonly app: INestApplication;
  readonly port: number;
  /** The warnings and the errors in the log of Nest. */
  readonly logged: unknown[];
}

export interface Setting {
  /** Whether the platform trusts the proxy on this host. */
  trustProxy?: boolean;
  /** Called before the application starts. */
  configure?: (app: INestApplication) => void;
}

/** Starts an application, which is closed after the check. */
export type Start = (metadata: ModuleMetadata, setting?: Setting) => Promise<Site>;

export interface Check {
  readonly name: string;
  run(start: Start, platform: Platform): Promise<void>;
}

/** Runs a check on a platform, and closes its applications. */
export async function runCheck({ run }: Check, platform: Platform): Promise<void> {
  const apps: INestApplication[] = [];
  try {
    await run(async (metadata, { trustProxy = false, configure } = {}) => {
      @Module(metadata)
      class AppModule {}
      const logged: unknown[] = [];
      const adapter = platform === 'express' ? new ExpressAdapter() : new FastifyAdapter({ trustProxy });
      const app = await NestFactory.create(AppModule, adapter, {
        logger: logTo(logged),
        abortOnError: false,
        forceCloseConnections: true,
      });
      apps.push(app);
      if (platform === 'express') (app as NestExpressApplication).set('trust proxy', trustProxy);
      configure?.(app);
      await app.listen(0, '127.0.0.1');
      return { app, port: (app.getHttpServer().address() as { port: number }).port, logged };
    }, platform);
  } finally {
    for (const app of apps) await app.close();
  }
}

function logTo(logged: unknown[]): LoggerService {
  const ignore = (): void => {};
  const store = (message: unknown): void => void logged.push(message);
  return { log: ignore, debug: ignore, verbose: ignore, warn: store, error: store, fatal: store };
}

/** Sets the user from a header field, as a guard that authenticates does. */
export class UserGuard implements CanActivate {
  canActivate(context: ExecutionContext): boolean {
    const request = context.switchToHttp().getRequest<{ headers: Record<string, string>; user?: unknown }>();
    const id = request.headers['x-user'];
    if (id !== undefined) request.user = { id };
    return true;
  }
}
Injectable()(UserGuard);

export const globalGuard: Provider = { provide: APP_GUARD, useClass: LimitGuard };

/** The metadata of a module with these limits, behind the guard for all routes. */
export const guarded = (
  options: HeadgateOptions,
  controllers: NonNullable<ModuleMetadata['controllers']>,
  providers: NonNullable<ModuleMetadata['providers']> = [],
): ModuleMetadata => ({
  imports: [HeadgateModule.forRoot(options)],
  controllers,
  providers: [...providers, globalGuard],
});
