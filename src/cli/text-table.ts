/** Tables of text. */

import { ellipsize, pad, textWidth } from './text.ts';

/** A column of a table. */
export interface Column {
  readonly header: string;
  readonly align?: 'left' | 'right';
  /** Gives way where the table is wider than the terminal. */
  readonly shrinks?: boolean;
}

export interface TableStyle {
  /** Columns of the terminal; undefined where nothing is cut. */
  readonly width: number | undefined;
  readonly legend: boolean;
  /** Stands at the end of what was cut. */
  readonly mark: string;
  /** Colours a cell that has its final width. */
  readonly paint?: (text: string, column: number, cell: string) => string;
  readonly paintHeader?: (text: string) => string;
}

const gap = ' ';
const narrowest = 6;

/** Takes columns from the widest that give way, until the table fits or none can give more. */
function fit(widths: readonly number[], columns: readonly Column[], available: number): number[] {
  const fitted = [...widths];
  let excess = fitted.reduce((sum, width) => sum + width + gap.length, -gap.length) - available;
  for (; excess > 0; excess--) {
    let widest = -1;
    for (const [index, column] of columns.entries()) {
      const width = fitted[index] ?? 0;
      if (column.shrinks === true && width > narrowest && width > (fitted[widest] ?? 0)) {
        widest = index;
      }
    }
    if (widest < 0) break;
    fitted[widest] = (fitted[widest] ?? 0) - 1;
  }
  return fitted;
}

/** Lines of a table, without blanks at their ends. */
export function renderTable(
  columns: readonly Column[],
  rows: readonly (readonly string[])[],
  style: TableStyle,
): string[] {
  const shown = style.legend ? [columns.map(({ header }) => header), ...rows] : rows;
  const natural = columns.map((_, index) =>
    Math.max(0, ...shown.map((row) => textWidth(row[index] ?? ''))),
  );
  const widths = style.width === undefined ? natural : fit(natural, columns, style.width);
  const last = columns.length - 1;
  return shown.map((row, rowIndex) => {
    const isHeader = style.legend && rowIndex === 0;
    const cells = columns.map(({ align = 'left' }, index) => {
      const cell = row[index] ?? '';
      const cut = ellipsize(cell, widths[index] ?? 0, style.mark);
      const filled = index === last && align === 'left' ? cut : pad(cut, widths[index] ?? 0, align);
      return isHeader ? filled : (style.paint?.(filled, index, cell) ?? filled);
    });
    const line = cells.join(gap).trimEnd();
    return isHeader ? (style.paintHeader?.(line) ?? line) : line;
  });
}
