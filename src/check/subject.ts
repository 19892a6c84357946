/** What the checks look at: the host as it was read once, and one container of it. */
import type { ConfigLine } from '../host/config-lines.ts';
import type { Files } from '../host/files.ts';
import type { HostReader } from '../host/read.ts';
import { codeOf, errnoText } from '../model/errno.ts';
import type { Container } from '../generator/container.ts';
import type { Facts } from '../generator/read-facts.ts';
import type { GatheredFacts } from '../generator/refused.ts';
import type { Findings } from './findings.ts';

/** The host, with everything that was read and decided. */
export interface Subject {
  readonly root: string;
  readonly files: Files;
  readonly host: HostReader;
  readonly facts: Facts;
  readonly containers: readonly CheckedContainer[];
  /** Containers that the caller has named; without names, all of them. */
  readonly isWanted: (name: string) => boolean;
  /** Whether /proc and /sys are those of the running host. */
  readonly isRunning: boolean;
  readonly mountPoints: ReadonlySet<string>;
  readonly findings: Findings;
}

/** One container: what was read of it, and what the generator has decided. */
export interface CheckedContainer {
  readonly name: string;
  readonly facts: GatheredFacts;
  readonly unit: Container;
  /** Lines of its configuration and of what that includes, in the order in which LXC takes them. */
  readonly lines: readonly ConfigLine[];
}

/** Whether a path of the host is there; `why` where that cannot be told. */
export function presenceOf(
  { root, files }: Pick<Subject, 'root' | 'files'>,
  path: string,
): 'there' | 'absent' | { readonly why: string } {
  try {
    files.stat(files.locate(root, path));
    return 'there';
  } catch (error) {
    if (['ENOENT', 'ENOTDIR'].includes(codeOf(error) ?? '')) return 'absent';
    return {
      why: error instanceof Error && codeOf(error) === 'EHUNG' ? error.message : errnoText(error),
    };
  }
}
