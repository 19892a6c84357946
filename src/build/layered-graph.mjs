// Lays out a graph without cycles in columns, from what comes first on the left to what comes last.

/**
 * @typedef {{ from: string, to: string, isNeeded: boolean }} Edge
 * @typedef {{ x: number, y: number }} Place
 * @typedef {{ path: string, isNeeded: boolean }} Line
 * @typedef {{ width: number, height: number, columnGap: number, rowGap: number, margin: number, top: number }} Size
 */

/** How often the columns are sorted by their neighbours, in both directions. */
const sweeps = 12;

/**
 * Edges that no longer way says already.
 * @param {readonly Edge[]} edges
 */
export function withoutShortcuts(edges) {
  /** @type {(from: string, to: string, without?: Edge) => boolean} */
  const leads = (from, to, without) =>
    edges.some(
      (edge) =>
        edge !== without && edge.from === from && (edge.to === to || leads(edge.to, to, without)),
    );
  return edges.filter((edge) => !leads(edge.from, edge.to, edge));
}

/**
 * The column of each node: one more than the last column of what comes before it. What nothing comes
 * before stands next to what it comes before.
 * @param {readonly string[]} nodes
 * @param {readonly Edge[]} edges
 */
function columnsOf(nodes, edges) {
  /** @type {Map<string, number>} */
  const columns = new Map();
  /** @type {(node: string) => number} */
  const columnOf = (node) => {
    const known = columns.get(node);
    if (known !== undefined) return known;
    const before = edges.filter(({ to }) => to === node).map(({ from }) => columnOf(from));
    const column = Math.max(-1, ...before) + 1;
    columns.set(node, column);
    return column;
  };
  nodes.forEach(columnOf);
  for (const node of nodes.filter((one) => !edges.some(({ to }) => to === one))) {
    const next = edges.filter(({ from }) => from === node).map(({ to }) => columns.get(to) ?? 0);
    if (next.length > 0) columns.set(node, Math.min(...next) - 1);
  }
  return columns;
}

/**
 * Gives each edge a place in every column that it crosses, so that it has a way between the boxes.
 * @param {readonly Edge[]} edges
 * @param {Map<string, number>} columns
 */
function ways(edges, columns) {
  return edges.map((edge) => {
    const first = columns.get(edge.from) ?? 0;
    const last = columns.get(edge.to) ?? 0;
    const between = Array.from({ length: last - first - 1 }, (_, at) => {
      const point = `${edge.from} ${edge.to} ${at}`;
      columns.set(point, first + 1 + at);
      return point;
    });
    return { ...edge, points: [edge.from, ...between, edge.to] };
  });
}

/**
 * Sorts the nodes of each column so that lines cross seldom.
 * @param {ReadonlyMap<string, number>} columns
 * @param {readonly { points: readonly string[] }[]} lines
 */
function sortedColumns(columns, lines) {
  const count = Math.max(...columns.values()) + 1;
  const table = Array.from({ length: count }, (_, at) =>
    [...columns].filter(([, column]) => column === at).map(([node]) => node),
  );
  const steps = lines.flatMap(({ points }) =>
    points.slice(1).map((to, at) => ({ from: points[at] ?? '', to })),
  );
  /** @param {string} node @param {'from' | 'to'} side */
  const middle = (node, side) => {
    const other = side === 'from' ? 'to' : 'from';
    const near = steps.filter((step) => step[side] === node).map((step) => step[other]);
    const at = near.map((one) => {
      const column = table[columns.get(one) ?? 0] ?? [];
      return (column.indexOf(one) + 0.5) / column.length;
    });
    return at.length === 0 ? 0.5 : at.reduce((sum, one) => sum + one, 0) / at.length;
  };
  for (let sweep = 0; sweep < sweeps; sweep++) {
    const side = sweep % 2 === 0 ? 'to' : 'from';
    for (const column of side === 'to' ? table : [...table].reverse()) {
      const ranks = new Map(column.map((node) => [node, middle(node, side)]));
      column.sort((a, b) => (ranks.get(a) ?? 0) - (ranks.get(b) ?? 0) || (a < b ? -1 : 1));
    }
  }
  return table;
}

/**
 * @param {readonly (readonly string[])[]} table
 * @param {ReadonlySet<string>} nodes
 * @param {Size} size
 */
function placesOf(table, nodes, { width, height, columnGap, rowGap, margin, top }) {
  /** A line between boxes needs less room than a box. */
  const need = (/** @type {string} */ node) => (nodes.has(node) ? height : 6) + rowGap;
  const heights = table.map((column) => column.reduce((sum, node) => sum + need(node), 0) - rowGap);
  const total = Math.max(...heights);
  /** @type {Map<string, Place>} */
  const places = new Map();
  for (const [at, column] of table.entries()) {
    let y = top + (total - (heights[at] ?? 0)) / 2;
    for (const node of column) {
      places.set(node, { x: margin + at * (width + columnGap), y: Math.round(y) });
      y += need(node);
    }
  }
  return {
    places,
    width: 2 * margin + table.length * (width + columnGap) - columnGap,
    height: total + 2 * top,
  };
}

/**
 * Places of the boxes, and the lines between them.
 * @param {readonly string[]} nodes
 * @param {readonly Edge[]} edges
 * @param {Size} size
 */
export function layOut(nodes, edges, size) {
  const boxes = new Set(nodes);
  const shown = withoutShortcuts(edges);
  const columns = columnsOf(nodes, shown);
  const routes = ways(shown, columns);
  const { places, width, height } = placesOf(sortedColumns(columns, routes), boxes, size);
  /** @param {string} node @param {boolean} isEnd */
  const port = (node, isEnd) => {
    const { x, y } = places.get(node) ?? { x: 0, y: 0 };
    const half = boxes.has(node) ? size.height / 2 : 3;
    return { x: isEnd ? x : x + size.width, y: y + half };
  };
  const lines = routes.map(({ points, isNeeded }) => {
    const parts = points.slice(1).map((to, at) => {
      const start = port(points[at] ?? '', false);
      const end = port(to, true);
      const bend = (end.x - start.x) / 2;
      const along = at === 0 ? `M${start.x} ${start.y}` : `H${start.x}`;
      return `${along} C${start.x + bend} ${start.y} ${end.x - bend} ${end.y} ${end.x} ${end.y}`;
    });
    return { path: parts.join(' '), isNeeded };
  });
  return { places, lines, width, height };
}
