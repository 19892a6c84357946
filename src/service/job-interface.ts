/** The interface org.lockerd1.Job, whole and in the order of org.lockerd1.xml. */

import { errorNames, interfaces, unknownFigure } from '../api/names.ts';
import { unlimited } from '../model/memory-limit.ts';
import { method, type Interface } from '../bus/interface-table.ts';
import { busError, DBusError } from '../bus/values.ts';
import type { Job } from '../core/job-queue.ts';
import { optionsOfCancel } from '../core/request.ts';
import {
  forCaller,
  onlyOptions,
  optionBag,
  optionsArgument,
  type Options,
  type ServiceContext,
} from './service-context.ts';
import { containerPath, parsePath } from '../api/paths.ts';

/** How a caller writes that it waits without limit; so does 0. */
const forEver = unlimited;

/** The bus name of what went wrong, and a text; both empty where nothing did. */
export function errorOf({ error }: Job): [name: string, message: string] {
  return error ? [errorNames[error.code], error.message] : ['', ''];
}

/** org.lockerd1.Job, for all jobs: the path says which. */
// eslint-disable-next-line max-lines-per-function -- The table of the interface, which is read as a whole.
export function jobInterface(context: ServiceContext): Interface {
  const { core } = context;
  const at = (path: string): Job => {
    const parsed = parsePath(path);
    const job = parsed?.kind === 'job' ? core.jobs.get(parsed.id) : undefined;
    if (job) return job;
    throw new DBusError(busError.unknownObject, `there is no object ${path} any more`);
  };
  const property = (emits: 'const' | 'true', signature: string, get: (job: Job) => unknown) => ({
    signature,
    emits,
    get: (path: string) => get(at(path)),
  });
  return {
    name: interfaces.job,
    methods: {
      Cancel: method({
        in: [optionsArgument],
        out: [],
        checkEntry: onlyOptions(optionsOfCancel),
        handler: (call, [options]) => {
          const job = at(call.path);
          return forCaller(context.callers, call, (caller) =>
            core.cancel(caller, job, optionBag(options as Options)),
          );
        },
      }),
      Wait: method({
        in: [['timeout_usec', 't']],
        out: [
          ['result', 's'],
          ['error_name', 's'],
          ['error_message', 's'],
        ],
        handler: (call, [timeout]) => {
          const job = at(call.path);
          const isBounded = timeout !== 0n && timeout !== forEver;
          return forCaller(context.callers, call, async (caller) => {
            await core.wait(caller, job, isBounded ? Math.ceil(Number(timeout) / 1000) : undefined);
            return [job.result, ...errorOf(job)] as const;
          });
        },
      }),
    },
    properties: {
      Id: property('const', 'u', ({ id }) => id),
      Verb: property('const', 's', ({ verb }) => verb),
      // A job of a locker has none, which a path cannot say.
      Container: property('const', 'o', ({ container }) =>
        container === '' ? '/' : containerPath(container),
      ),
      Locker: property('const', 's', ({ locker }) => locker),
      StartedByUid: property('const', 'u', ({ uid }) => uid),
      StartTimestamp: property('const', 't', ({ startUsec }) => startUsec),
      State: property('true', 's', ({ state }) => state),
      Phase: property('true', 's', ({ phase }) => phase),
      Progress: property('true', 'd', ({ progress }) => progress),
      Cancelable: property('true', 'b', ({ isCancelable }) => isCancelable),
      Result: property('true', 's', ({ result }) => result),
      Error: property('true', '(ss)', errorOf),
      Warnings: property('true', 'as', ({ warnings }) => [...warnings]),
      StallUsec: property('true', 't', ({ stallUsec }) => stallUsec ?? unknownFigure),
    },
  };
}
