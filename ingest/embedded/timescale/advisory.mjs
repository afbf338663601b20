// Answers a plain advisory lock statement from the locks the front keeps, in place of the engine.
// Owns the wording of the answers; the locks are the session's, the protocol state the connection's.

import { commandComplete, dataRow, notice, rowDescription } from './wire.mjs'

const BOOL = { oid: 16, bytes: 1 }
const VOID = { oid: 2278, bytes: 4 }

/**
 * *advisory* is what sql.mjs found, *key* the lock's key as text. *how*: `native` runs the statement in
 * the engine, `described` says that the client knows the row's shape already, `binary` the result
 * format, `finish` ends the answer of a simple query.
 */
export async function answerAdvisory(connection, advisory, key, how) {
  const { session } = connection
  const { locks } = session
  const { take, wait, shared } = advisory
  if (advisory.transaction) {
    // The engine keeps these; it has one session, so only the locks kept here can stand against it.
    if (locks.isFree(connection, key, shared)) return await connection.forward(await how.native())
    return wait ? await connection.refuse(deadlock(key)) : await reply(connection, advisory, false, how)
  }
  if (!take) {
    const released = locks.release(connection, key, shared)
    const kind = shared ? 'ShareLock' : 'ExclusiveLock'
    if (!released) connection.send(notice({ code: '01000', text: `you don't own a lock of type ${kind}` }))
    return await reply(connection, advisory, released, how)
  }
  if (locks.tryTake(connection, key, shared)) return await reply(connection, advisory, true, how)
  if (!wait) return await reply(connection, advisory, false, how)
  if (session.status !== 'I') return await connection.refuse(deadlock(key))
  await connection.stepAside()
  const timeoutMs = Number(connection.settings.get('lock_timeout') ?? 0)
  const taken = await locks.take(connection, key, shared, timeoutMs)
  if (taken) return await reply(connection, advisory, true, how)
  connection.refuseAway({ code: '55P03', text: 'canceling statement due to lock timeout' })
}

async function reply(connection, { take, wait, column }, yes, { described, binary, finish }) {
  const isVoid = take && wait
  const type = isVoid ? VOID : BOOL
  if (!described) connection.send(rowDescription(column, type.oid, type.bytes))
  connection.send(dataRow(isVoid ? Buffer.alloc(0) : binary ? Buffer.from([yes ? 1 : 0]) : Buffer.from(yes ? 't' : 'f')))
  connection.send(commandComplete('SELECT 1'))
  await finish()
}

const deadlock = (key) => ({
  code: '55P03',
  text: `advisory lock ${key} is held by another connection, which cannot go on before this transaction ends`,
  hint: 'The embedded database has one session for all connections: take advisory locks before BEGIN.',
})
