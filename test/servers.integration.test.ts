/** The servers of the test run are what the tests take them for. */
import { createConnection } from 'mysql2/promise'
import { userInfo } from 'node:os'
import { expect, inject, test } from 'vitest'
import { searchAttributeKeys } from '../temporal/search-attributes.ts'
import { connectTestTemporal, TEST_NAMESPACE } from './temporal.ts'

test('MariaDB answers on its socket and on nothing else', async () => {
  const connection = await createConnection({ socketPath: inject('mariadbSocket'), user: userInfo().username })
  try {
    const [rows] = await connection.query("show variables where variable_name = 'skip_networking'")
    expect(rows).toEqual([{ Variable_name: 'skip_networking', Value: 'ON' }])
  } finally {
    await connection.end()
  }
})

test('Temporal has the namespace and every search attribute', async () => {
  const temporal = await connectTestTemporal()
  try {
    const { customAttributes } = await temporal.client.connection.operatorService.listSearchAttributes({
      namespace: TEST_NAMESPACE,
    })
    expect(Object.keys(customAttributes ?? {})).toEqual(expect.arrayContaining(searchAttributeKeys.map((key) => key.name)))
  } finally {
    await temporal.close()
  }
})
