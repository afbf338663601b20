// COPY … FROM STDIN: collects what the client sends and has the engine read it as a file, because the
// protocol's own way traps in WebAssembly. Owns the sequence from CopyInResponse to CommandComplete.
// COPY … TO STDOUT needs none of this: the engine does it.

import { message, query, readCstring } from './wire.mjs'

/** Runs *sql* for *connection*; *copy* is what sql.mjs found. A missing table shows when the data is there. */
export async function copyIn(connection, sql, copy) {
  const { engine } = connection.session
  // In a failed transaction block the engine refuses it before it comes to the trap.
  if (engine.status === 'E') return await connection.forward(await engine.run(query(sql)))
  // No column formats follow: only the engine knows the columns, and clients do not ask.
  connection.send(message('G', Buffer.from([copy.binary ? 1 : 0, 0, 0])))
  const chunks = []
  for (let next = await connection.next(); next !== null && next.type !== 'X'; next = await connection.next()) {
    const { type, body } = next
    if (type === 'd') chunks.push(body)
    else if (type === 'c') return await connection.forward(await engine.copyFrom(copy.sql, concatenate(chunks)))
    else if (type === 'f') {
      return await connection.refuse({ code: '57014', text: `COPY from stdin failed: ${readCstring(body)[0]}` })
    } else if (type !== 'H' && type !== 'S') {
      return await connection.refuse({ code: '08P01', text: `unexpected message type "${type}" during COPY from stdin` })
    }
  }
}

// An ArrayBuffer of its own: the engine makes a view of it for each read.
function concatenate(chunks) {
  const whole = new Uint8Array(chunks.reduce((bytes, chunk) => bytes + chunk.length, 0))
  let offset = 0
  for (const chunk of chunks) {
    whole.set(chunk, offset)
    offset += chunk.length
  }
  return whole.buffer
}
