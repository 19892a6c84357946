/** Shells that complete a line: what they offer, and what a typed line with tabs becomes. */

import { spawn } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';

export type ShellName = 'bash' | 'zsh' | 'fish';

export const shellNames: readonly ShellName[] = ['bash', 'zsh', 'fish'];

/** Where the scripts of completion are, and where a shell of a test may write. */
export interface ShellPlace {
  readonly scripts: string;
  readonly scratch: string;
  readonly env: Readonly<Record<string, string>>;
}

interface Output {
  readonly stdout: string;
  readonly stderr: string;
}

function run(command: string, args: readonly string[], env: ShellPlace['env']): Promise<Output> {
  const child = spawn(command, args, { env, stdio: ['ignore', 'pipe', 'pipe'] });
  let [stdout, stderr] = ['', ''];
  child.stdout.on('data', (chunk: Buffer) => (stdout += chunk.toString()));
  child.stderr.on('data', (chunk: Buffer) => (stderr += chunk.toString()));
  return new Promise((resolve, reject) => {
    child.once('error', reject).once('close', () => {
      resolve({ stdout, stderr });
    });
  });
}

const bashScript = `
  source /usr/share/bash-completion/bash_completion || exit 9
  source "$1"
  shift
  compopt() { :; }
  for COMP_LINE; do
    # bash splits at "=" and ":" as well, which are words of their own.
    rest=$COMP_LINE COMP_WORDS=() word=
    while [[ -n $rest ]]; do
      case $rest in
        \\ *) [[ -n $word ]] && COMP_WORDS+=("$word"); word= ;;
        [=:]*) [[ -n $word ]] && COMP_WORDS+=("$word"); word=; COMP_WORDS+=("\${rest:0:1}") ;;
        *) word+=\${rest:0:1} ;;
      esac
      rest=\${rest:1}
    done
    [[ -n $word || $COMP_LINE != *[=:] ]] && COMP_WORDS+=("$word")
    COMP_POINT=\${#COMP_LINE} COMP_CWORD=$((\${#COMP_WORDS[@]} - 1)) COMP_TYPE=9 COMP_KEY=9
    COMPREPLY=()
    _lockerctl
    echo "line $COMP_LINE"
    for word in "\${COMPREPLY[@]}"; do eval "printf '%s\\n' $word"; done
  done`;

const fishScript = `
  source $argv[1]
  for line in $argv[2..]
    echo "line $line"
    complete -C $line
  end`;

/** Completes each line at the first prompt, notes what compadd gets, and ends. */
function zshProfile(place: ShellPlace, lines: readonly string[]): string {
  const quoted = lines.map((line) => `'${line.replaceAll("'", String.raw`'\''`)}'`);
  return `
    fpath=('${place.scripts}' $fpath)
    autoload -Uz compinit && compinit -u -D
    LISTMAX=10000 PS1='> '
    compadd() {
      # With these it offers nothing, but tells the caller what it would.
      if (( \${@[1,(i)--][(I)-[AOD]*]} )); then
        builtin compadd "$@"
        return
      fi
      local -a offered
      builtin compadd -O offered "$@"
      (( $#offered )) && print -rl -- $offered >> '${place.scratch}/offered'
      (( $#offered ))
    }
    show() {
      for BUFFER in ${quoted.join(' ')}; do
        CURSOR=$#BUFFER
        print -r -- "line $BUFFER" >> '${place.scratch}/offered'
        zle complete-line
      done
      exit
    }
    zle -C complete-line list-choices _main_complete
    zle -N zle-line-init show`;
}

async function runZsh(place: ShellPlace, lines: readonly string[]): Promise<Output> {
  const dots = join(place.scratch, 'zsh');
  mkdirSync(dots, { recursive: true });
  writeFileSync(join(dots, '.zshrc'), zshProfile(place, lines));
  rmSync(join(place.scratch, 'offered'), { force: true });
  const env = { ...place.env, TERM: 'xterm', ZDOTDIR: dots };
  const { stdout } = await run('script', ['-qec', 'zsh -d -i', '/dev/null'], env);
  const file = join(place.scratch, 'offered');
  // All that a terminal shows of an error would be here.
  return { stdout: existsSync(file) ? readFileSync(file, 'utf8') : '', stderr: stdout };
}

/** What is offered for a line, without descriptions and without what a shell adds to it. */
function wordsFor(shell: ShellName, line: string, offered: readonly string[]): string[] {
  const texts = offered.map((text) => text.split('\t')[0] ?? '');
  // zsh offers options where nothing else can stand.
  const isOperand = !/ -\S*$| -- /.test(line);
  return (
    texts
      .filter((text) => !(shell === 'zsh' && isOperand && text.startsWith('-')))
      // fish offers an option whose value may be left out in both forms.
      .filter((text) => !(text.endsWith('=') && texts.includes(text.slice(0, -1))))
      .map((text) => text.replace(/^(--[a-z-]+)=$/, '$1').replace(/^--[a-z-]+=(?=.)/, ''))
      // In a list, zsh completes the last part only.
      .map((text) => text.replace(/^.*,/, ''))
      .sort()
  );
}

/** What a shell offers for the last word of each line, sorted, and what it said beside that. */
export async function offers(
  shell: ShellName,
  place: ShellPlace,
  lines: readonly string[],
): Promise<{ readonly words: Readonly<Record<string, readonly string[]>>; readonly said: string }> {
  const script = (name: string): string => join(place.scripts, name);
  const { stdout, stderr } =
    shell === 'zsh'
      ? await runZsh(place, lines)
      : shell === 'bash'
        ? await run('bash', ['-c', bashScript, 'bash', script('lockerctl'), ...lines], place.env)
        : await run(
            'fish',
            ['--no-config', '-c', fishScript, script('lockerctl.fish'), ...lines],
            place.env,
          );
  const parts = stdout.split(/^line /m).slice(1);
  const words = parts.map((part): [string, string[]] => {
    const [line = '', ...offered] = part.trimEnd().split('\n');
    // A line may end in a blank.
    const asked = lines.find(
      (known) => known.trimEnd() === line.trimEnd() && part.startsWith(known),
    );
    return [asked ?? line, wordsFor(shell, asked ?? line, offered)];
  });
  return { words: Object.fromEntries(words), said: stderr };
}

/** How an interactive shell of a test is started: its files are not read, its prompt is known. */
function interactive(shell: ShellName, place: ShellPlace): [command: string, profile: string] {
  const profile = join(place.scratch, `typing.${shell}`);
  switch (shell) {
    case 'bash':
      writeFileSync(
        profile,
        `source /usr/share/bash-completion/bash_completion
        source '${place.scripts}/lockerctl'
        bind 'set enable-bracketed-paste off'
        set +o histexpand
        PS1='ready> '`,
      );
      return [`bash --noprofile --rcfile '${profile}' -i`, profile];
    case 'zsh': {
      const dots = join(place.scratch, 'typing');
      mkdirSync(dots, { recursive: true });
      writeFileSync(
        join(dots, '.zshrc'),
        `fpath=('${place.scripts}' $fpath)
        autoload -Uz compinit && compinit -u -D
        unsetopt banghist
        PS1='ready> '`,
      );
      return [`ZDOTDIR='${dots}' zsh -d -i`, dots];
    }
    case 'fish':
      writeFileSync(
        profile,
        `source '${place.scripts}/lockerctl.fish'
        function fish_prompt; echo 'ready> '; end`,
      );
      return [`fish --no-config -C "source '${profile}'"`, profile];
  }
}

/**
 * Types each line, with tabs, into a shell that a person could use. The program that the lines start
 * must write its arguments to the file `record`, one a line and an empty one at the end.
 * @returns the arguments that came of each line
 */
export async function typed(
  shell: ShellName,
  place: ShellPlace,
  lines: readonly string[],
  record: string,
): Promise<string[][]> {
  const [command] = interactive(shell, place);
  rmSync(record, { force: true });
  const env = { ...place.env, TERM: 'xterm' };
  const child = spawn('script', ['-qec', command, '/dev/null'], { env });
  let screen = '';
  child.stdout.on('data', (chunk: Buffer) => (screen += chunk.toString()));
  const runs = (): string[][] => {
    const text = existsSync(record) ? readFileSync(record, 'utf8') : '';
    return text
      .split('\n\n')
      .slice(0, -1)
      .map((run) => run.split('\n'));
  };
  const until = async (condition: () => boolean): Promise<void> => {
    const deadline = Date.now() + 60_000;
    while (!condition()) {
      if (Date.now() > deadline) throw new Error(`${shell} does not go on:\n${screen}`);
      await sleep(20);
    }
  };
  try {
    await until(() => screen.includes('ready>'));
    for (const [index, line] of lines.entries()) {
      screen = '';
      child.stdin.write(line);
      // What comes of the tab must be there before the line ends.
      await until(() => screen.length > line.length);
      child.stdin.write('\r');
      await until(() => runs().length > index && screen.includes('ready>'));
    }
    return runs();
  } finally {
    child.kill('SIGKILL');
  }
}
