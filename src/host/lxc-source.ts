import type { LxcText } from './grammar.ts';

/** Why something could not be read, and what the admin can do about it. */
export interface ReadProblem {
  readonly reason: string;
  readonly remedy: string;
  readonly isHung?: true;
}

/** One configuration file as it was read. Containers that include the same file share the object. */
export interface LxcFile {
  /** Absolute path, as the host sees it. */
  readonly path: string;
  readonly text: LxcText;
  /** Lines, counted from 1, with bytes that are not UTF-8; the text has U+FFFD there. */
  readonly badLines: ReadonlySet<number>;
  /** One for each line that includes something, in the order of the lines. */
  readonly includes: readonly LxcInclude[];
  /** Why the file could not be read; the text is empty then. */
  readonly problem?: ReadProblem;
}

/** What one `lxc.include` line brought: one file, or the `*.conf` files of a directory. */
export interface LxcInclude {
  readonly path: string;
  readonly exists: boolean;
  readonly files: readonly LxcFile[];
  /** Why the line brought nothing. */
  readonly problem?: ReadProblem;
}

/** A container's own file with everything it includes. */
export interface LxcSource {
  readonly file: LxcFile;
  /** Every file and directory that was looked for, each once. */
  readonly paths: readonly { readonly path: string; readonly exists: boolean }[];
}
