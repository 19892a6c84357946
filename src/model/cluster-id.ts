/**
 * Names of a container's resources in a Pacemaker cluster. Such a name is an XML id: it begins with a letter
 * and has letters, digits, ".", "-" and "_" only. Different containers have different ones.
 */
import { utf8Bytes } from './utf8.ts';

/**
 * Any text as part of an id. What an id cannot have, and the dot itself, becomes a dot with the two
 * hexadecimal digits of each byte. So a dot that a word follows, such as `.locker`, separates.
 */
export function idPart(text: string): string {
  return utf8Bytes(text)
    .map((byte) => {
      const character = String.fromCharCode(byte);
      return /^[\w-]$/.test(character) ? character : `.${byte.toString(16).padStart(2, '0')}`;
    })
    .join('');
}

/** The group that has a container and all that is mounted for it. */
export function clusterGroup(container: string): string {
  return `lxc-${idPart(container)}`;
}

/** What starts or stops the group, for messages: crmsh's command and that of pcs. */
export function clusterCommand(container: string, verb: 'start' | 'stop'): string {
  const group = clusterGroup(container);
  return `crm resource ${verb} ${group}, or: pcs resource ${verb === 'start' ? 'enable' : 'disable'} ${group}`;
}
