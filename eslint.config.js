import eslint from '@eslint/js';
import tseslint from 'typescript-eslint';

const noDefaultExport = {
  'no-restricted-exports': [
    'error',
    { restrictDefaultExports: { direct: true, named: true, defaultFrom: true } },
  ],
};

export default tseslint.config(
  { ignores: ['dist/', 'node_modules/', 'tests/machines/'] },
  eslint.configs.recommended,
  tseslint.configs.strict,
  {
    rules: {
      ...noDefaultExport,
      '@typescript-eslint/consistent-type-imports': 'error',
      '@typescript-eslint/no-unused-vars': [
        'error',
        { argsIgnorePattern: '^_', varsIgnorePattern: '^_', ignoreRestSiblings: true },
      ],
      // A task that yields nothing on this machine is a task all the same.
      'require-yield': 'off',
    },
  },
  {
    // Tools find what they want in a file's default export.
    files: ['vitest.config.ts', 'eslint.config.js', 'tests/cli/stories/*'],
    rules: { 'no-restricted-exports': 'off' },
  },
);
