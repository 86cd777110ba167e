import { describe, expect, it } from 'vitest'
import { parseDatabaseUrl, withoutDatabase } from './database-url.ts'

describe('parseDatabaseUrl', () => {
  it('takes a server on the network', () => {
    expect(parseDatabaseUrl('mysql://holdfast:p%40ss%2Fw%25rd@db.example:3307/catalog')).toEqual({
      host: 'db.example',
      port: 3307,
      user: 'holdfast',
      password: 'p@ss/w%rd',
      database: 'catalog',
    })
  })

  it('takes a unix socket', () => {
    expect(parseDatabaseUrl('mysql://root@localhost/holdfast?socketPath=%2Frun%2Fmy%20sql.sock')).toEqual({
      host: 'localhost',
      port: 3306,
      socketPath: '/run/my sql.sock',
      user: 'root',
      database: 'holdfast',
    })
  })

  it('takes IPv6, and mariadb:// as a scheme', () => {
    expect(parseDatabaseUrl('mariadb://u@[::1]/d')).toMatchObject({ host: '::1', user: 'u', database: 'd' })
  })

  it.each(['', 'holdfast', 'postgres://u:secret@h/d', 'mysql://u:sec%ret@h/d'])(
    'refuses "%s" without repeating its password',
    (url) => {
      expect(() => parseDatabaseUrl(url)).toThrow(
        expect.objectContaining({ code: 'INVALID_REQUEST', message: expect.not.stringContaining('sec') }),
      )
    },
  )
})

describe('withoutDatabase', () => {
  it('keeps everything else', () => {
    expect(withoutDatabase('mysql://u:p%40@h:1/d?socketPath=%2Fs')).toBe('mysql://u:p%40@h:1/?socketPath=%2Fs')
  })
})
