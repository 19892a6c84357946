import type { Container, HostFacts } from '../generator/container.ts';
import { modelContainers } from '../generator/decide.ts';
import { readFacts } from '../generator/read-facts.ts';
import { withoutDefects } from '../generator/refused.ts';
import type { ConfigLine } from '../host/config-lines.ts';
import { linesOf } from '../host/config-lines.ts';
import { Files } from '../host/files.ts';
import { createLxcReader } from '../host/read-lxc.ts';
import { HostReader } from '../host/read.ts';

/** A host as the generator sees it, read once. */
export interface ClusterHost {
  readonly containers: readonly Container[];
  readonly host: HostFacts;
  readonly reader: HostReader;
  /** Lines of a container's configuration and of what that includes. */
  readonly linesOf: (container: Container) => readonly ConfigLine[];
}

/** Reads everything below `root` (the empty string for the host itself). */
export function readClusterHost(root: string): ClusterHost {
  const files = new Files();
  const facts = readFacts(root, files);
  const { containers } = withoutDefects(facts.containers, facts.settings.defaults, (sound) =>
    modelContainers(sound, facts.host),
  );
  const lxc = createLxcReader(root, files);
  return {
    containers,
    host: facts.host,
    reader: new HostReader(root, files),
    linesOf: ({ configFile }) => linesOf(lxc.read(configFile)),
  };
}
