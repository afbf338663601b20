// The first messages of a client: encryption refused, settings taken, password asked if there is one.
// Owns nothing; answers through the connection it is given.

import { randomBytes, timingSafeEqual } from 'node:crypto'
import {
  CANCEL_REQUEST, GSS_REQUEST, SSL_REQUEST, cstring, int32, message, parameterStatus, readCstring, readStartup,
  readyForQuery,
} from './wire.mjs'

// What a startup packet says besides settings. The user and the database named are not looked at:
// there is one database and one superuser.
const NOT_SETTINGS = new Set(['user', 'database', 'options', 'replication'])

/** Takes *connection* through startup; false when it is over. Raises EngineError for a refused setting. */
export async function admit(connection, { password }) {
  for (;;) {
    const first = await connection.next()
    if (first === null || first.body.length < 4) return false
    const code = first.body.readInt32BE(0)
    if (code === CANCEL_REQUEST) return false // a statement here runs to its end before anything is read
    if (code === SSL_REQUEST || code === GSS_REQUEST) {
      connection.send(Buffer.from('N'))
      continue
    }
    if (code >>> 16 !== 3) {
      connection.fatal({ code: '08P01', text: `unsupported frontend protocol ${code >>> 16}.${code & 0xffff}` })
      return false
    }
    return await welcome(connection, readStartup(first.body), password)
  }
}

async function welcome(connection, { minor, parameters }, password) {
  const extensions = [...parameters.keys()].filter((name) => name.startsWith('_pq_.'))
  if (minor > 0 || extensions.length > 0) {
    const names = extensions.map(cstring)
    connection.send(message('v', int32(3 << 16), int32(names.length), ...names))
  }
  for (const [name, value] of parameters) {
    if (name === 'options') for (const [key, set] of readOptions(value)) connection.startupSettings.set(key, set)
    else if (!NOT_SETTINGS.has(name) && !extensions.includes(name)) {
      connection.startupSettings.set(name.toLowerCase(), value)
    }
  }
  if (password !== undefined && !(await authenticate(connection, password))) return false
  connection.reported = await connection.session.join(connection)
  connection.send(message('R', int32(0)))
  for (const [name, value] of connection.reported) connection.send(parameterStatus(name, value))
  connection.send(message('K', int32(connection.processId), randomBytes(4)))
  connection.send(readyForQuery('I'))
  return !connection.closed
}

async function authenticate(connection, password) {
  connection.send(message('R', int32(3)))
  const answer = await connection.next()
  if (answer === null) return false
  const given = Buffer.from(answer.type === 'p' ? readCstring(answer.body)[0] : '')
  const wanted = Buffer.from(password)
  if (given.length === wanted.length && timingSafeEqual(given, wanted)) return true
  connection.fatal({ code: '28P01', text: 'password authentication failed' })
  return false
}

/** The settings in `options`: `-c name=value`, `-cname=value` or `--name=value`, a backslash escapes. */
function readOptions(text) {
  const words = (text.match(/(?:\\[\s\S]|\S)+/g) ?? []).map((word) => word.replace(/\\([\s\S])/g, '$1'))
  const settings = []
  for (let i = 0; i < words.length; i++) {
    const word = words[i] === '-c' ? words[++i] ?? '' : words[i].replace(/^-c|^--/, '')
    const at = word.indexOf('=')
    if (at > 0) settings.push([word.slice(0, at).toLowerCase().replaceAll('-', '_'), word.slice(at + 1)])
  }
  return settings
}
