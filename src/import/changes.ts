/** What an import changes, as data. */

/** Lines in the place of one line of a file. */
export interface LineEdit {
  /** Counted from 1; one more than the file has for what is appended. */
  readonly line: number;
  readonly after: readonly string[];
  readonly reason: string;
}

/** One change of the host's files. Paths are the host's, without symbolic links on the way. */
export type Change =
  | {
      readonly kind: 'edit';
      readonly path: string;
      readonly before: string;
      readonly edits: readonly LineEdit[];
    }
  | {
      readonly kind: 'create';
      readonly path: string;
      readonly text: string;
      readonly reasons: readonly string[];
    }
  | {
      readonly kind: 'link';
      readonly path: string;
      readonly target: string;
      readonly reason: string;
    }
  | {
      readonly kind: 'unlink';
      readonly path: string;
      readonly target: string;
      readonly reason: string;
    };

/** All that an import would do. */
export interface ImportPlan {
  readonly changes: readonly Change[];
  /** What an admin has to do or to know beside them. */
  readonly notes: readonly string[];
}

/** The lines of a text; the end of the last one is not a line. */
export function linesOfText(text: string): string[] {
  const lines = text.split('\n');
  if (lines.at(-1) === '') lines.pop();
  return lines;
}

/** The text with its edits. */
export function editedText(before: string, edits: readonly LineEdit[]): string {
  const byLine = new Map(edits.map((edit) => [edit.line, edit.after]));
  const lines = linesOfText(before);
  const edited = lines.flatMap((line, index) => byLine.get(index + 1) ?? [line]);
  return [...edited, ...(byLine.get(lines.length + 1) ?? [])].map((line) => `${line}\n`).join('');
}
