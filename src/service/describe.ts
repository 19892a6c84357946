/**
 * What is seen of guests when somebody asks. Methods, not properties: each look costs a process of root's,
 * and properties are read all together, also by those who want none of this.
 */

import { method, type Method } from '../bus/interface-table.ts';
import { busError, DBusError, knownVariants, type VariantMap } from '../bus/values.ts';
import { parsePath } from '../api/paths.ts';
import type { GuestLook } from '../core/ports.ts';
import { answering } from './bus-errors.ts';
import type { ServiceContext } from './service-context.ts';

/** The description of a guest as it goes over the bus; nothing of one that does not run. */
function descriptionOf(look: GuestLook | undefined): VariantMap {
  if (look === undefined) return {};
  const { os = {} } = look;
  return knownVariants([
    ['Addresses', 'a(ss)', look.addresses?.map(({ interface: name, address }) => [name, address])],
    ['MoreAddresses', 'b', look.hasMoreAddresses],
    ['SharesNetwork', 'b', look.sharesNetwork],
    ['HostName', 's', look.hostName],
    ['OperatingSystem', 's', os.name],
    ['OperatingSystemId', 's', os.id],
    ['OperatingSystemVersion', 's', os.version],
    ['Unprivileged', 'b', look.isUnprivileged],
    ['StartTimestamp', 't', look.startUsec],
    ['LowestMemoryLimit', 't', look.lowestLimit],
  ]);
}

/** Describe of a container. */
export function describeMethod({ core }: ServiceContext): Method {
  return method({
    in: [],
    out: [['description', 'a{sv}']],
    handler: ({ path }) =>
      answering(async () => {
        const parsed = parsePath(path);
        const name = parsed?.kind === 'container' ? parsed.name : '';
        if (!core.host.container(name)) {
          throw new DBusError(busError.unknownObject, `there is no object ${path} any more`);
        }
        return [descriptionOf((await core.looks.of([name])).get(name))];
      }),
  });
}

/** DescribeContainers of the manager. */
export function describeContainersMethod({ core }: ServiceContext): Method {
  return method({
    in: [['containers', 'as']],
    out: [['descriptions', 'a{sa{sv}}']],
    handler: (_, [names]) =>
      answering(async () => {
        const all = names.length > 0 ? names : core.host.containers.map(({ name }) => name);
        const looks = await core.looks.of([...new Set(all)]);
        return [Object.fromEntries([...looks].map(([name, look]) => [name, descriptionOf(look)]))];
      }),
  });
}
