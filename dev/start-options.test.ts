import { expect, test } from 'vitest'
import { readStartOptions } from './start-options.ts'

test('without anything set: our own servers on the usual ports', () => {
  expect(readStartOptions([], {})).toMatchObject({
    verbose: false,
    stack: {
      databaseUrl: undefined,
      temporalAddress: undefined,
      apiHost: '127.0.0.1',
      apiPort: 8082,
      temporalPort: 7233,
      uiPort: 8233,
    },
  })
})

test('other servers are used when they are named; an empty variable names none', () => {
  const { stack } = readStartOptions([], { DATABASE_URL: 'mysql://u:p@db/holdfast', TEMPORAL_ADDRESS: '' })
  expect(stack).toMatchObject({ databaseUrl: 'mysql://u:p@db/holdfast', temporalAddress: undefined })
})

test('the Web UI can be switched off', () => {
  expect(readStartOptions(['--verbose'], { HOLDFAST_TEMPORAL_UI_PORT: 'off' })).toMatchObject({
    verbose: true,
    stack: { uiPort: null },
  })
})

test.each(['0', '65536', '8233.5', 'none', '-1'])('a port of %s is refused by the name of its variable', (value) => {
  expect(() => readStartOptions([], { HOLDFAST_TEMPORAL_UI_PORT: value })).toThrow(`HOLDFAST_TEMPORAL_UI_PORT is "${value}"`)
})

test('an unknown option is answered with the manual', () => {
  expect(() => readStartOptions(['--nope'], {})).toThrow(/'--nope'[\s\S]*DATABASE_URL/)
})
