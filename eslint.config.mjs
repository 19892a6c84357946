import js from '@eslint/js';
import tseslint from 'typescript-eslint';

/** The parts of the generator that must run on any JavaScript engine, not only on Node. */
const enginePortable = [
  'src/model/**/*.ts',
  'src/host/{parse-lxc,lxc-*,grammar,settings}.ts',
  'src/generator/{container,decide*,plan*,render}.ts',
];

export default tseslint.config(
  { ignores: ['dist/', 'node_modules/', 'coverage/', 'src/vendor/'] },
  js.configs.recommended,
  ...tseslint.configs.strictTypeChecked,
  ...tseslint.configs.stylisticTypeChecked,
  {
    languageOptions: {
      parserOptions: { projectService: true, tsconfigRootDir: import.meta.dirname },
    },
    rules: {
      '@typescript-eslint/switch-exhaustiveness-check': [
        'error',
        { considerDefaultExhaustiveForUnions: true },
      ],
      '@typescript-eslint/restrict-template-expressions': ['error', { allowNumber: true }],
      '@typescript-eslint/consistent-type-imports': 'error',
      'no-control-regex': 'off',
      eqeqeq: 'error',
    },
  },
  {
    // A file or function that must be longer says why where it switches the rule off.
    files: ['src/**/*.{ts,tsx}'],
    rules: {
      'max-lines': ['error', 450],
      'max-lines-per-function': ['error', 60],
    },
  },
  {
    files: enginePortable,
    rules: {
      'no-restricted-imports': [
        'error',
        { patterns: [{ group: ['node:*'], message: 'Only read and write may use Node APIs.' }] },
      ],
      'no-restricted-globals': ['error', 'process', 'Buffer', 'setTimeout', 'require'],
    },
  },
  {
    files: ['**/*.mjs'],
    ...tseslint.configs.disableTypeChecked,
    languageOptions: {
      parserOptions: { projectService: false, program: null, project: false },
      globals: { process: 'readonly', console: 'readonly', URL: 'readonly' },
    },
  },
);
