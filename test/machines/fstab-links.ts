/** Lines of fstab behind symbolic links, for a look at where systemd-fstab-generator(8) has their mounts. */

/** Makes the links below `base`, in the root directory that the script is given. */
export function linkScript(base: string): string {
  return `
    tree=$1${base}
    mkdir -p "$tree/real/in"
    : > "$tree/real/in/file"
    ln -s real "$tree/relative"
    ln -s ${base}/relative "$tree/absolute"
    ln -s nowhere/x "$tree/dangling"
    ln -s loop "$tree/loop"
    ln -s ../real/./in/ "$tree/real/up"
    ln -s "real/in/a b" "$tree/blank"`;
}

/** What is mounted there, as a path. */
export function linkTargets(base: string): string[] {
  return [
    'absolute/data',
    'relative/',
    'dangling',
    'dangling/k',
    'loop/k',
    'real/up/q',
    'absolute/../w',
    '/real//z/./',
    'real/in/file/below',
    'not/there/yet',
    'absolute/my films-2',
    'blank',
    'relative/up/../auto',
  ].map((target) => `${base}/${target}`);
}

export function linkFstab(base: string): string {
  return linkTargets(base)
    .map((target) => {
      const options = target.endsWith('auto') ? 'nofail,x-systemd.automount' : 'noauto';
      return `tmpfs ${target.replaceAll(' ', '\\040')} tmpfs ${options} 0 0\n`;
    })
    .join('');
}
