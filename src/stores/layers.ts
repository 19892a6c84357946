/** Chooses the layer between a locker's volume and its file system. */

import { LockerdError } from '../model/errors.ts';
import { encryptions } from '../model/locker-words.ts';
import { noLayer } from './layer.ts';
import type { Layer } from './layer.ts';
import { LuksLayer } from './luks.ts';
import type { Tools } from './tools.ts';

/** What a layer is made for. */
export interface LayerContext {
  readonly locker: string;
  readonly tools: Tools;
  /** Of a new one; known beforehand, so that its key is found whatever has become of the volume. */
  readonly uuid?: string | undefined;
  /** Hears of phases in which it is waited for somebody. */
  readonly progress?: (phase: string, fraction: number) => void;
}

/** @param encrypt of a request or of a definition. Throws InvalidArgs for what is not known. */
export function layerFor(encrypt: string, context: LayerContext): Layer {
  if (encrypt === 'no') return noLayer;
  const encryption = encryptions.find((known) => known === encrypt);
  if (encryption !== undefined) return new LuksLayer(encryption, context);
  throw new LockerdError(
    'InvalidArgs',
    `locker "${context.locker}" cannot be encrypted by "${encrypt}"; use "no", "key-file" or "passphrase"`,
  );
}
