import type { ObjectTree } from '../bus/object-tree.ts';
import type { Interface } from '../bus/interface-table.ts';

/** Text that differs where values differ. */
function imageOf(value: unknown): string {
  return JSON.stringify(value, (_, part: unknown) =>
    typeof part === 'bigint' ? `${part}n` : part,
  );
}

/** An object on the bus whose changes are told, each property when its value is another one. */
export class Published {
  readonly #tree: ObjectTree;
  readonly #path: string;
  readonly #table: Interface;
  readonly #told = new Map<string, string>();

  constructor(tree: ObjectTree, path: string, table: Interface) {
    this.#tree = tree;
    this.#path = path;
    this.#table = table;
    this.#takeChanges();
    tree.add(path, [table]);
  }

  #takeChanges(): string[] {
    const changed: string[] = [];
    for (const [name, { emits, get }] of Object.entries(this.#table.properties ?? {})) {
      if (emits !== 'true') continue;
      const image = imageOf(get(this.#path));
      if (this.#told.get(name) === image) continue;
      this.#told.set(name, image);
      changed.push(name);
    }
    return changed;
  }

  /** Sends one PropertiesChanged with all that is new, or none. */
  update(): void {
    const changed = this.#takeChanges();
    if (changed.length > 0) this.#tree.changed(this.#path, this.#table.name, changed);
  }

  remove(): void {
    this.#tree.remove(this.#path);
  }
}
