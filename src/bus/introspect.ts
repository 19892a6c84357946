/** The introspection data of objects, as XML. */

import type { Argument, Interface } from './interface-table.ts';

const doctype =
  '<!DOCTYPE node PUBLIC "-//freedesktop//DTD D-BUS Object Introspection 1.0//EN"\n' +
  ' "http://www.freedesktop.org/standards/dbus/1.0/introspect.dtd">\n';

const emitsChangedSignal = 'org.freedesktop.DBus.Property.EmitsChangedSignal';

const entities: Record<string, string> = { '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;' };

/** A line of XML; `content` is indented by one and closed by a line of its own. */
function element(
  name: string,
  attributes: Readonly<Record<string, string>>,
  content: readonly string[] = [],
): string[] {
  const start = [
    name,
    ...Object.entries(attributes).map(
      ([key, value]) => `${key}="${value.replace(/[&<>"]/g, (char) => entities[char] ?? char)}"`,
    ),
  ].join(' ');
  if (content.length === 0) return [`<${start}/>`];
  return [`<${start}>`, ...content.map((line) => ` ${line}`), `</${name}>`];
}

function argumentsOf(list: readonly Argument[], direction?: 'in' | 'out'): string[] {
  return list.flatMap(([name, type]) =>
    element('arg', { name, type, ...(direction === undefined ? {} : { direction }) }),
  );
}

function interfaceElement({
  name,
  methods = {},
  properties = {},
  signals = {},
}: Interface): string[] {
  return element('interface', { name }, [
    ...Object.entries(methods).flatMap(([member, declaration]) =>
      element('method', { name: member }, [
        ...argumentsOf(declaration.in, 'in'),
        ...argumentsOf(declaration.out, 'out'),
      ]),
    ),
    ...Object.entries(properties).flatMap(([member, { signature, emits, set }]) =>
      element(
        'property',
        { name: member, type: signature, access: set === undefined ? 'read' : 'readwrite' },
        element('annotation', { name: emitsChangedSignal, value: emits }),
      ),
    ),
    ...Object.entries(signals).flatMap(([member, list]) =>
      element('signal', { name: member }, argumentsOf(list)),
    ),
  ]);
}

/**
 * The introspection data of an object: the D-Bus specification, section "Introspection Data
 * Format".
 * @param children last parts of the paths below the object
 */
export function introspect(interfaces: readonly Interface[], children: readonly string[]): string {
  const lines = element('node', {}, [
    ...interfaces.flatMap((table) => interfaceElement(table)),
    ...children.flatMap((name) => element('node', { name })),
  ]);
  return `${doctype}${lines.join('\n')}\n`;
}
