/** What the generator has written for a container, and for each line what made it. */

import { useState, type ReactNode } from 'react';
import { messageOf } from './host.ts';
import type { Container } from './objects.ts';
import * as pf from './patternfly.ts';
import { isObject, text } from './values.ts';

interface Maker {
  readonly file: string;
  readonly line: number;
  readonly text: string;
}

interface Line {
  readonly section: string;
  readonly text: string;
  readonly makers: readonly Maker[];
}

interface MadeFile {
  readonly path: string;
  readonly target: string;
  readonly makers: readonly Maker[];
  readonly lines: readonly Line[];
}

const objects = (value: unknown): Readonly<Record<string, unknown>>[] =>
  Array.isArray(value) ? value.filter(isObject) : [];

const makersOf = (value: unknown): readonly Maker[] =>
  objects(value).map((maker) => ({
    file: text(maker['file']),
    line: Number(maker['line']),
    text: text(maker['text']),
  }));

/** The answer of `lockerctl explain --json`. */
function filesOf(answer: unknown): readonly MadeFile[] {
  if (!isObject(answer)) return [];
  return objects(answer['files']).map((file) => ({
    path: text(file['path']),
    target: text(file['target']),
    makers: makersOf(file['makers']),
    lines: objects(file['lines']).map((line) => ({
      section: text(line['section']),
      text: text(line['text']),
      makers: makersOf(line['makers']),
    })),
  }));
}

const makerText = ({ file, line, text }: Maker): string => `${file}:${line}: ${text}`;

function FileLines({ file }: { readonly file: MadeFile }): ReactNode {
  const common = file.makers.map(makerText).join('\n');
  return (
    <section className="lockerd-unit" aria-label={file.path}>
      <h3 className="lockerd-words">
        {file.path}
        {file.target !== '' && ` → ${file.target}`}
      </h3>
      {common !== '' && <p className="lockerd-maker lockerd-words">{common}</p>}
      <dl>
        {file.lines.map((line, index) => {
          const own = line.makers.map(makerText).join('\n');
          const isNew = line.section !== file.lines[index - 1]?.section;
          return (
            <div key={index}>
              {isNew && <dt className="lockerd-section">{line.section}</dt>}
              <dt className="lockerd-words">{line.text}</dt>
              {own !== '' && own !== common && (
                <dd className="lockerd-maker lockerd-words">{own}</dd>
              )}
            </div>
          );
        })}
      </dl>
    </section>
  );
}

export function UnitCard({ container }: { readonly container: Container }): ReactNode {
  const [files, setFiles] = useState<readonly MadeFile[]>();
  const [problem, setProblem] = useState('');
  const [isReading, setIsReading] = useState(false);
  const explain = async (): Promise<void> => {
    const command = ['lockerctl', 'explain', '--json', '--', container.name];
    setIsReading(true);
    try {
      const output = await cockpit.spawn(command, { superuser: 'try', err: 'message' });
      setFiles(filesOf(JSON.parse(output)));
      setProblem('');
    } catch (error) {
      setProblem(messageOf(error));
    }
    setIsReading(false);
  };
  return (
    <pf.Card className="lockerd-wide">
      <pf.CardHeader>
        <pf.CardTitle component="h2">Generated unit</pf.CardTitle>
      </pf.CardHeader>
      <pf.CardBody className="lockerd-stack">
        <div>
          <pf.Button variant="secondary" isLoading={isReading} onClick={() => void explain()}>
            {files === undefined ? 'Explain each line' : 'Read again'}
          </pf.Button>
        </div>
        {problem !== '' && <pf.Alert isInline component="h2" variant="danger" title={problem} />}
        {files?.map((file) => (
          <FileLines key={file.path} file={file} />
        ))}
      </pf.CardBody>
    </pf.Card>
  );
}
