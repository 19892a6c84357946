/** Type signatures: the D-Bus specification, sections "Type System" and "Valid Signatures". */

/** One complete type of a signature. */
export interface Type {
  /** The type code; `(` for a struct and `{` for a dict entry. */
  readonly code: string;
  readonly signature: string;
  /** Boundary of the marshalled value in bytes. */
  readonly alignment: 1 | 2 | 4 | 8;
  /** The element of an array, the fields of a struct, key and value of a dict entry. */
  readonly children: readonly Type[];
}

const basicAlignment: Record<string, Type['alignment']> = {
  y: 1,
  g: 1,
  n: 2,
  q: 2,
  b: 4,
  i: 4,
  u: 4,
  s: 4,
  o: 4,
  h: 4,
  x: 8,
  t: 8,
  d: 8,
};

/** Of arrays, and of structs; dict entries only occur in arrays. */
const maximumDepth = 32;

class SignatureParser {
  readonly #text: string;
  #position = 0;

  constructor(text: string) {
    this.#text = text;
  }

  parse(): Type[] {
    const types = [];
    while (this.#position < this.#text.length) types.push(this.#completeType(0, 0));
    return types;
  }

  #completeType(arrays: number, structs: number): Type {
    const start = this.#position;
    const code = this.#text.charAt(this.#position++);
    const alignment = Object.hasOwn(basicAlignment, code) ? basicAlignment[code] : undefined;
    if (alignment !== undefined) return { code, signature: code, alignment, children: [] };
    switch (code) {
      case 'v':
        return { code, signature: code, alignment: 1, children: [] };
      case 'a': {
        if (arrays >= maximumDepth) throw this.#problem('arrays are nested too deeply');
        const isDict = this.#text.charAt(this.#position) === '{';
        const element = isDict
          ? this.#dictEntry(arrays + 1, structs)
          : this.#completeType(arrays + 1, structs);
        return this.#container(code, start, 4, [element]);
      }
      case '(': {
        if (structs >= maximumDepth) throw this.#problem('structs are nested too deeply');
        const fields: Type[] = [];
        while (!this.#take(')')) fields.push(this.#completeType(arrays, structs + 1));
        if (fields.length === 0) throw this.#problem('a struct has no fields');
        return this.#container(code, start, 8, fields);
      }
      default:
        throw this.#problem(code === '' ? 'it ends too early' : `unknown type "${code}"`);
    }
  }

  #dictEntry(arrays: number, structs: number): Type {
    const start = this.#position++;
    const key = this.#completeType(arrays, structs);
    if (key.children.length > 0 || key.code === 'v')
      throw this.#problem('the key of a dict entry is not a basic type');
    const value = this.#completeType(arrays, structs);
    if (!this.#take('}')) throw this.#problem('a dict entry has more than a key and a value');
    return this.#container('{', start, 8, [key, value]);
  }

  #container(code: string, start: number, alignment: 4 | 8, children: readonly Type[]): Type {
    return { code, signature: this.#text.slice(start, this.#position), alignment, children };
  }

  #take(code: string): boolean {
    if (this.#text.charAt(this.#position) !== code) return false;
    this.#position++;
    return true;
  }

  #problem(reason: string): Error {
    return new Error(`invalid signature "${this.#text}": ${reason}`);
  }
}

/** Signatures come from strangers too, so only so many are remembered. */
const remembered = new Map<string, readonly Type[]>();
const maximumRemembered = 512;

/**
 * The complete types of a signature.
 * @throws Error when it is not valid
 */
export function parseSignature(signature: string): readonly Type[] {
  const known = remembered.get(signature);
  if (known !== undefined) return known;
  if (signature.length > 255) throw new Error('invalid signature: longer than 255 characters');
  const types = new SignatureParser(signature).parse();
  if (remembered.size >= maximumRemembered) remembered.clear();
  remembered.set(signature, types);
  return types;
}

/**
 * The one type of a signature such as a variant's.
 * @throws Error when it is not valid or not exactly one complete type
 */
export function parseSingleType(signature: string): Type {
  const [type, ...more] = parseSignature(signature);
  if (type === undefined || more.length > 0)
    throw new Error(`invalid signature "${signature}": not one complete type`);
  return type;
}
