/** The unified diff of edits: which lines change is known, so nothing has to be compared. */
import type { LineEdit } from './changes.ts';
import { linesOfText } from './changes.ts';

const contextLines = 3;

/** One line of the diff: ` ` for both texts, `-` for the old one, `+` for the new one. */
interface DiffLine {
  readonly mark: ' ' | '-' | '+';
  readonly text: string;
}

function markedLines(before: string, edits: readonly LineEdit[]): DiffLine[] {
  const byLine = new Map(edits.map(({ line, after }) => [line, after]));
  const lines = linesOfText(before);
  const added = (line: number): DiffLine[] =>
    (byLine.get(line) ?? []).map((text) => ({ mark: '+', text }));
  return [
    ...lines.flatMap((text, index): DiffLine[] =>
      byLine.has(index + 1) ? [{ mark: '-', text }, ...added(index + 1)] : [{ mark: ' ', text }],
    ),
    ...added(lines.length + 1),
  ];
}

/** `START,COUNT` of a hunk's head. */
function range(linesBefore: number, count: number): string {
  const start = count === 0 ? linesBefore : linesBefore + 1;
  return count === 1 ? String(start) : `${start},${count}`;
}

/** The diff as patch(1) takes it, without the names of the files. */
export function unifiedDiff(before: string, edits: readonly LineEdit[]): string[] {
  const lines = markedLines(before, edits);
  const isNear = lines.map(() => false);
  for (const [index, { mark }] of lines.entries()) {
    if (mark === ' ') continue;
    const start = Math.max(0, index - contextLines);
    isNear.fill(true, start, Math.min(lines.length, index + contextLines + 1));
  }
  const output: string[] = [];
  let [old, now] = [0, 0];
  for (let index = 0; index < lines.length; index++) {
    const [oldStart, nowStart] = [old, now];
    const hunk: string[] = [];
    for (; isNear[index] === true; index++) {
      const { mark, text } = lines[index] ?? { mark: ' ', text: '' };
      if (mark !== '+') old++;
      if (mark !== '-') now++;
      hunk.push(mark + text);
    }
    if (hunk.length > 0) {
      output.push(
        `@@ -${range(oldStart, old - oldStart)} +${range(nowStart, now - nowStart)} @@`,
        ...hunk,
      );
    }
    if (index < lines.length) {
      old++;
      now++;
    }
  }
  return output;
}
