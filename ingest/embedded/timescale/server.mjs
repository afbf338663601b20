// TimescaleDB for demonstrations and tests: listens for PostgreSQL clients on the loopback interface
// and serves them all from one engine in WebAssembly. Never for production: one session, no
// background workers, no statement timeout, everybody is superuser.
//
//   node server.mjs [--port N] [--host 127.0.0.1] [--data-dir PATH] [--silence-limit-s 60]
//
// Prints one line of JSON when ready. Ends on SIGTERM, SIGINT, or when its standard input closes (its
// parent is gone); then it writes a checkpoint, so that the data directory opens again. A password is
// asked for when GREENHOUSE_EMBEDDED_PASSWORD is set.

import net from 'node:net'
import { parseArgs } from 'node:util'
import { Connection } from './connection.mjs'
import { Engine } from './engine.mjs'
import { Session } from './session.mjs'

const EXIT_USAGE = 2
const EXIT_ENGINE = 70

function options() {
  const { values } = parseArgs({
    options: {
      host: { type: 'string', default: '127.0.0.1' },
      port: { type: 'string', default: '0' },
      'data-dir': { type: 'string' },
      'silence-limit-s': { type: 'string', default: '60' },
    },
  })
  if (!['127.0.0.1', '::1', 'localhost'].includes(values.host)) {
    throw new Error(`--host ${values.host}: the embedded database listens on the loopback interface only`)
  }
  const port = Number(values.port)
  if (!Number.isInteger(port) || port < 0 || port > 65535) throw new Error(`--port ${values.port}: not a port number`)
  const silenceLimitS = Number(values['silence-limit-s'])
  if (!(silenceLimitS > 0)) throw new Error(`--silence-limit-s ${values['silence-limit-s']}: not a number above 0`)
  return { host: values.host, port, dataDir: values['data-dir'], silenceLimitMs: silenceLimitS * 1000 }
}

function die(code, text) {
  process.stderr.write(`${text}\n`, () => process.exit(code))
}

async function main() {
  const { host, port, dataDir, silenceLimitMs } = options()
  const password = process.env.GREENHOUSE_EMBEDDED_PASSWORD
  const engine = await Engine.open(dataDir)
  const session = new Session(engine)
  const connections = new Set()
  let lastId = 0
  let stopping = false

  const server = net.createServer((socket) => {
    const connection = new Connection(++lastId, socket, session, { password, silenceLimitMs })
    connections.add(connection)
    connection
      .run()
      .catch((error) => stopping || die(EXIT_ENGINE, `the embedded database failed: ${error.stack ?? error}`))
      .finally(() => connections.delete(connection))
  })

  async function stop() {
    if (stopping) return
    stopping = true
    server.close()
    for (const connection of connections) {
      connection.fatal({ code: '57P01', text: 'terminating connection due to administrator command' })
    }
    await engine.close()
    process.exit(0)
  }
  for (const signal of ['SIGTERM', 'SIGINT']) process.on(signal, stop)
  process.stdin.on('end', stop).on('error', stop).resume()

  server.on('error', (error) => die(EXIT_USAGE, `cannot listen on ${host}:${port}: ${error.message}`))
  const [[postgresql, timescaledb]] = await engine.rows(
    `select current_setting('server_version'), extversion from pg_extension where extname = 'timescaledb'`,
  )
  server.listen(port, host, () => {
    process.stdout.write(`${JSON.stringify({ ready: true, port: server.address().port, postgresql, timescaledb })}\n`)
  })
}

main().catch((error) => die(EXIT_USAGE, `the embedded database did not start: ${error.message}`))
