/** The same tests with both transpilers, as their instructions say. No setting concerns headgate. */
module.exports = {
  projects: [
    { displayName: 'ts-jest', testEnvironment: 'node', transform: { '^.+\\.ts$': 'ts-jest' } },
    { displayName: 'babel-jest', testEnvironment: 'node', transform: { '^.+\\.ts$': 'babel-jest' } },
  ],
};
