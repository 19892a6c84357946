declare module '*.hbs' {
  /** Renders the template; a value it names and does not get is an error (strict mode). */
  const render: (view: object) => string;
  export default render;
}

/** Replaced at build time by package.json's version. */
declare const LOCKERD_VERSION: string;
