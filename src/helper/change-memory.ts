import type { BalloonContext } from '../balloon/balloon.ts';
import { applyLimits, balloon } from '../balloon/balloon.ts';
import { unlimited } from '../model/memory-limit.ts';
import { forMemory, withSystemd } from './context.ts';
import { Progress } from './progress.ts';
import type { BalloonRequest } from './request.ts';

function parseLimit(text: string): bigint {
  return text === 'max' ? unlimited : BigInt(text);
}

/** Answers write limits as requests do, as text, because JSON has no 64-bit numbers. */
function formatLimit(bytes: bigint): string {
  return bytes === unlimited ? 'max' : bytes.toString();
}

/** Progress goes to the client; the change ends when the client leaves. */
function withBalloonContext<T>(use: (context: BalloonContext) => Promise<T>): Promise<T> {
  const abort = new AbortController();
  const cancel = (): void => {
    abort.abort();
  };
  process.stdout.on('error', cancel);
  // systemd stops the unit of this helper, for example when the host shuts down.
  process.once('SIGTERM', cancel);
  const progress = new Progress(cancel);
  const report: BalloonContext['report'] = (phase, fraction) => {
    progress.report(phase, fraction);
  };
  return withSystemd(forMemory, (systemd) => use({ systemd, report, signal: abort.signal }));
}

/**
 * Changes a container's memory limit. The answer has the limit `before` and the current `limit` and
 * `swap`, in bytes or `max`, `warnings`, the bytes `reclaimed` and the guest's `stallUsec`. A refused
 * shrink names the `lowest` limit that would have worked. Closing the connection cancels the change.
 */
export async function changeMemory(request: BalloonRequest): Promise<Record<string, unknown>> {
  return withBalloonContext(async (context) => {
    const { before, limit, swap, warnings, stallUsec, reclaimed } = await balloon(
      {
        container: request.container,
        limit: parseLimit(request.limit),
        swap: request.swap === undefined ? undefined : parseLimit(request.swap),
        force: request.force,
        persist: request.persist,
      },
      context,
    );
    return {
      before: formatLimit(before),
      limit: formatLimit(limit),
      swap: formatLimit(swap),
      warnings,
      reclaimed: reclaimed.toString(),
      ...(stallUsec === undefined ? {} : { stallUsec }),
    };
  });
}

/** Gives the kernel the limits of a running container's unit, without killing anything. */
export async function applyMemoryLimits(container: string): Promise<Record<string, unknown>> {
  await withBalloonContext((context) => applyLimits(container, context));
  return {};
}
