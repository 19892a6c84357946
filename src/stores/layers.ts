/** Chooses the layer between a locker's volume and its file system. */

import { LockerdError } from '../model/errors.ts';
import { noLayer } from './layer.ts';
import type { Layer } from './layer.ts';
import type { Tools } from './tools.ts';

/** What a layer is made for. */
export interface LayerContext {
  readonly locker: string;
  readonly tools: Tools;
}

/** @param encrypt of a request or of a definition. Throws InvalidArgs for what is not known. */
export function layerFor(encrypt: string, { locker }: LayerContext): Layer {
  if (encrypt === 'no') return noLayer;
  throw new LockerdError(
    'InvalidArgs',
    `locker "${locker}" cannot be encrypted by "${encrypt}"; use "no"`,
  );
}
