import { serve } from '../../src/bus/serve.ts';
import { method, type Interface } from '../../src/bus/interface-table.ts';
import { busDaemon, type PrivateBus } from './bus.ts';

/** A property ExecStart=: programs with their arguments, and whether a failure is none. */
type Commands = readonly (readonly [program: string, args: readonly string[], boolean])[];

const unitPath = '/org/freedesktop/systemd1/unit/one';

/** A unit that can be started. */
const unit: Interface = {
  name: 'org.freedesktop.systemd1.Unit',
  properties: {
    ActiveState: { signature: 's', emits: 'true', get: () => 'inactive' },
    ConditionResult: { signature: 'b', emits: 'false', get: () => true },
  },
};

/** dbus-broker has systemd start services. This one can do no more; dbus-daemon starts them itself. */
export async function startFakeSystemd(bus: PrivateBus): Promise<void> {
  if (busDaemon === 'dbus-daemon') return;
  const connection = await bus.connect();
  const manager: Interface = {
    name: 'org.freedesktop.systemd1.Manager',
    methods: {
      Subscribe: method({ in: [], out: [], handler: () => undefined }),
      LoadUnit: method({ in: [['name', 's']], out: [['unit', 'o']], handler: () => [unitPath] }),
      StartTransientUnit: method({
        in: [
          ['name', 's'],
          ['mode', 's'],
          ['properties', 'a(sv)'],
          ['aux', 'a(sa(sv))'],
        ],
        out: [['job', 'o']],
        handler: (_, [, , properties]) => {
          const list = properties as readonly (readonly [string, { readonly value: unknown }])[];
          const commands = list.find(([key]) => key === 'ExecStart')?.[1].value as Commands;
          const [program = '', args = []] = commands[0] ?? [];
          bus.spawn([program, ...args.slice(1)]);
          return ['/org/freedesktop/systemd1/job/1'];
        },
      }),
    },
  };
  await serve(connection, {
    objects: { '/org/freedesktop/systemd1': [manager], [unitPath]: [unit] },
  });
  await connection.requestName('org.freedesktop.systemd1');
}
