import fc from 'fast-check';

// The same cases in each run, so that a run tells of the change and not of luck. To look for more:
// LOCKERD_TEST_SEED=$RANDOM npm test -- unit differential
fc.configureGlobal({ seed: Number(process.env['LOCKERD_TEST_SEED'] ?? 1) });
