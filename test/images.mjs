// Makes images and saved states before somebody waits for them: `npm test` runs this beside the
// tiers that need none. Node built-ins only, because `npm ci` may not have run.
//
//   usage: images.mjs (host | trixie | web | vm | next | package)...

import { ensureClusterImage, ensureImage, ensureToolsImage } from './host/image.mjs';
import { ensurePackageImage, releases } from './package/package-images.mjs';
import { ensureWebImage } from './web/web-image.mjs';
import {
  ensureState,
  ensureVmImage,
  ensureVmToolsImage,
  networkedMachine,
  nextRelease,
  usualMachines,
} from './vm/image.mjs';

/** @param {string} [release] */
async function ensureMachines(release) {
  const image = await ensureVmImage(release);
  for (const machine of usualMachines) await ensureState(image, machine);
}

/** What a tier needs, by the name of what it boots. */
export const imagesFor = {
  host: async () => {
    await ensureImage();
    await ensureToolsImage();
    await ensureClusterImage();
  },
  trixie: async () => void (await ensureImage('trixie')),
  vm: () => ensureMachines(),
  pair: async () => ensureState(await ensureVmToolsImage(), networkedMachine),
  next: () => ensureMachines(nextRelease),
  web: async () => void (await ensureWebImage()),
  package: async () => {
    for (const release of releases) await ensurePackageImage(release);
  },
};

if (process.argv[1] === import.meta.filename) {
  for (const name of process.argv.slice(2)) {
    await imagesFor[/** @type {keyof typeof imagesFor} */ (name)]();
  }
}
