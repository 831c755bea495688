import { defineConfig } from 'vitest/config';

/** `.ci/run` asks for counts in a file. */
const report = process.env.CI_REPORT;

export default defineConfig({
  test: {
    include: ['tests/**/*.test.ts'],
    testTimeout: 300_000,
    hookTimeout: 300_000,
    reporters: report === undefined ? ['default'] : ['default', ['json', { outputFile: report }]],
  },
});
