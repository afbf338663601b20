// Lends the one database session to connections, one at a time, first come first served.
// Owns what PostgreSQL keeps per session and several connections must not share: settings, temporary
// tables, LISTEN, advisory locks. A connection keeps the session from its first message until the
// session is idle; what it leaves in the session is put away when another connection takes over.

import { SERVER_DEFAULTS } from './engine.mjs'
import { AdvisoryLocks } from './locks.mjs'
import { int32, message, readCstring } from './wire.mjs'
import { quoteIdentifier, quoteLiteral } from './sql.mjs'

// Settings PostgreSQL reports to its clients (documentation, "Asynchronous Operations").
const REPORTED = [
  'application_name', 'client_encoding', 'datestyle', 'default_transaction_read_only', 'in_hot_standby',
  'integer_datetimes', 'intervalstyle', 'is_superuser', 'scram_iterations', 'server_encoding',
  'server_version', 'standard_conforming_strings', 'timezone',
]
const REPORTED_AS = { datestyle: 'DateStyle', intervalstyle: 'IntervalStyle', timezone: 'TimeZone' }

const SNAPSHOT = `
  select lower(name), setting from pg_settings
  where source = 'session' and name not like 'transaction\\_%' and name not in ('role', 'session_authorization')
  union all select 'session_authorization', session_user where session_user <> 'postgres'
  union all select 'role', current_setting('role') where current_setting('role') <> 'none'`

// A temporary table put aside is renamed to <name>~<connection>; 63 bytes is PostgreSQL's limit.
const ASIDE_NAME_CHARS = 52

export class Session {
  #engine
  #holder = null
  #waiting = []
  #last = null
  #inForce = ''
  #connections = new Set()
  locks = new AdvisoryLocks()

  constructor(engine) {
    this.#engine = engine
  }

  get engine() {
    return this.#engine
  }

  get status() {
    return this.#engine.status
  }

  /** Makes *connection* known, its startup settings checked; returns what it is told. Raises EngineError. */
  async join(connection) {
    this.#connections.add(connection)
    connection.defaults = new Map([...SERVER_DEFAULTS, ...connection.startupSettings])
    connection.settings = new Map(connection.defaults)
    await this.acquire(connection)
    try {
      await this.learnSettings(connection, false) // '200ms' becomes 200, as the engine has it
      return await this.reported()
    } finally {
      this.release(connection)
    }
  }

  /** Waits until *connection* holds the session. Raises EngineError when its settings are refused. */
  async acquire(connection) {
    if (this.#holder === connection) return
    if (this.#holder !== null) await new Promise((granted) => this.#waiting.push({ connection, granted }))
    this.#holder = connection
    if (this.#last === connection) return
    try {
      await this.#handOver(this.#last, connection)
      this.#last = connection
    } catch (error) {
      this.#last = null
      this.#inForce = 'unknown'
      this.release(connection)
      throw error
    }
  }

  holds(connection) {
    return this.#holder === connection
  }

  /** Gives the session to whoever waits longest. */
  release(connection) {
    if (this.#holder !== connection) return
    const next = this.#waiting.shift()
    // Never free in between: a connection that asks now must queue behind those who wait.
    this.#holder = next === undefined ? null : next.connection
    next?.granted()
  }

  /** Forgets a closed connection: its transaction, statements, temporary tables, channels and locks. */
  async leave(connection) {
    this.#connections.delete(connection)
    this.locks.releaseAll(connection)
    const held = this.holds(connection)
    if (!held && connection.statements.size === 0 && !connection.hasTemporary) return
    if (!held) await this.acquire(connection)
    await this.#engine.abandon()
    for (const { native } of connection.statements.values()) await this.#engine.run(message('C', 'S' + native))
    await this.#engine.run(message('S'))
    if (connection.hasTemporary) {
      const tables = await this.#engine.rows(
        `reset session authorization; select relname from pg_class
         where relnamespace = pg_my_temp_schema() and relkind in ('r', 'p') and relname not like '%~%'`,
      )
      for (const [name] of tables) {
        await this.#engine.rows(`drop table if exists pg_temp.${quoteIdentifier(name)} cascade`)
      }
    }
    this.#last = null
    this.#inForce = 'unknown'
    this.release(connection)
  }

  /**
   * After statements that may have changed settings, the session idle: learns what is in force now.
   * *resetAll*: nothing but RESET ALL ran, so there is no need to ask. Says whether anything changed.
   */
  async learnSettings(connection, resetAll) {
    const roles = ['session_authorization', 'role']
    connection.settings = resetAll
      ? new Map([...connection.settings].filter(([name]) => roles.includes(name)))
      : new Map(await this.#engine.rows(SNAPSHOT))
    // RESET went behind the startup settings, which a session of its own would have returned to.
    const lost = [...connection.defaults].filter(([name]) => !connection.settings.has(name))
    if (lost.length > 0) await this.#engine.rows(lost.map(([name, value]) => setConfig(name, value)).join(';'))
    for (const [name, value] of lost) connection.settings.set(name, value)
    const before = this.#inForce
    this.#inForce = fingerprint(connection.settings)
    return before !== this.#inForce
  }

  /** What a client is told of the settings: Map of name to value. */
  async reported() {
    const rows = await this.#engine.rows(
      REPORTED.map((name) => `select '${name}', current_setting('${name}')`).join(' union all ') +
        ` union all select 'session_authorization', session_user`,
    )
    return new Map(rows.map(([name, value]) => [REPORTED_AS[name] ?? name, value]))
  }

  /** Sends a NotificationResponse to the connections that listen, its process id that of *sender*. */
  notify(body, sender) {
    const [channel] = readCstring(body, 4)
    for (const connection of this.#connections) {
      if (connection.channels.has(channel)) {
        connection.send(message('A', int32(sender.processId), body.subarray(4)))
        if (connection !== sender) connection.flush()
      }
    }
  }

  /** After an UNLISTEN of one connection: the session goes on listening for all the others. */
  async listenForOthers() {
    const channels = new Set([...this.#connections].flatMap((connection) => [...connection.channels]))
    if (channels.size === 0) return
    await this.#engine.rows([...channels].map((name) => `listen ${quoteIdentifier(name)}`).join(';'))
  }

  // As superuser: puts aside what *from* leaves, brings back what *to* had.
  async #handOver(from, to) {
    const wanted = fingerprint(to.settings)
    const moves = Boolean(from?.hasTemporary) || to.hasTemporary
    if (!moves && wanted === this.#inForce) return
    await this.#engine.rows('reset session authorization; reset role; reset all')
    if (from?.hasTemporary) await this.#renameTemporary(from, true)
    if (to.hasTemporary) await this.#renameTemporary(to, false)
    const roleLast = [...to.settings].sort(([a], [b]) => rank(a) - rank(b))
    await this.#engine.rows(roleLast.map(([name, value]) => setConfig(name, value)).join(';'))
    this.#inForce = wanted
  }

  // Puts a connection's temporary tables (and their indexes and sequences) aside, or brings them back.
  async #renameTemporary(connection, aside) {
    const suffix = `~${connection.id}`
    const which = aside ? `relname not like '%~%'` : `relname like '%${suffix}'`
    const relations = await this.#engine.rows(
      `select relname from pg_class where relnamespace = pg_my_temp_schema()
       and relkind in ('r', 'p', 'v', 'm', 'S', 'i', 'I') and ${which}`,
    )
    const renames = relations.map(([name]) => {
      const other = aside ? name.slice(0, ASIDE_NAME_CHARS) + suffix : name.slice(0, -suffix.length)
      return `alter table pg_temp.${quoteIdentifier(name)} rename to ${quoteIdentifier(other)}`
    })
    if (renames.length > 0) await this.#engine.rows(renames.join(';'))
  }
}

const rank = (name) => ['session_authorization', 'role'].indexOf(name)

const setConfig = (name, value) => `select set_config(${quoteLiteral(name)}, ${quoteLiteral(value)}, false)`

const fingerprint = (settings) => JSON.stringify([...settings].sort(([a], [b]) => (a < b ? -1 : 1)))
