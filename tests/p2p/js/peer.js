// A gossip peer that shares no code with the nodes it talks to.
//
//     node peer.js ADDRESS TOPIC
//
// It joins TOPIC at the node of ADDRESS. Each message it hears is checked as protocol/05-gossip.md
// says, as far as that goes without keys: a frame of two lists of byte strings, in the one
// canonical form. A line of hexadecimal digits on its input is published. It prints a line of JSON
// for whatever happens, and ends with its input or after a minute.

Promise.withResolvers ??= function () {
  // Node 20 lacks it, and libp2p uses it.
  let resolve, reject
  const promise = new Promise((yes, no) => { resolve = yes; reject = no })
  return { promise, resolve, reject }
}

const { createLibp2p } = await import('libp2p')
const { tcp } = await import('@libp2p/tcp')
const { noise } = await import('@chainsafe/libp2p-noise')
const { yamux } = await import('@chainsafe/libp2p-yamux')
const { identify } = await import('@libp2p/identify')
const { gossipsub } = await import('@libp2p/gossipsub')
const { multiaddr } = await import('@multiformats/multiaddr')
const { decode, encode } = await import('cborg')
const { createInterface } = await import('node:readline')

const [address, topic] = process.argv.slice(2)
const LIFETIME_MS = 60_000

function tell (event, facts = {}) {
  process.stdout.write(JSON.stringify({ event, ...facts }) + '\n')
}

function isCanonical (bytes, value) {
  return Buffer.compare(Buffer.from(encode(value)), Buffer.from(bytes)) === 0
}

function checkFrame (bytes) {
  const frame = decode(bytes, { strict: true })
  if (!Array.isArray(frame) || frame.length !== 2) throw new Error('not an array of two')
  if (!isCanonical(bytes, frame)) throw new Error('not canonical')
  for (const [kind, items] of [[0, 6], [1, 10]]) {
    for (const record of frame[kind]) {
      if (!(record instanceof Uint8Array)) throw new Error('a record is no byte string')
      const fields = decode(record, { strict: true })
      if (!Array.isArray(fields) || fields.length !== items) throw new Error('fields of a record')
      if (!isCanonical(record, fields)) throw new Error('a record is not canonical')
      if (fields.at(-1).length !== 65) throw new Error('length of a signature')
    }
  }
  return { entries: frame[0].length, ticks: frame[1].length }
}

const node = await createLibp2p({
  addresses: { listen: [] },
  transports: [tcp()],
  connectionEncrypters: [noise()],
  streamMuxers: [yamux()],
  services: { identify: identify(), pubsub: gossipsub() }
})
const pubsub = node.services.pubsub

function end () {
  // Open sockets would keep the process.
  process.exit(0)
}

setTimeout(end, LIFETIME_MS)
pubsub.topicValidators.set(topic, (from, message) => {
  try {
    tell('valid', checkFrame(message.data))
    return 'accept'
  } catch (error) {
    tell('invalid', { reason: error.message })
    return 'reject'
  }
})
pubsub.subscribe(topic)
pubsub.addEventListener('gossipsub:graft', () => tell('in mesh'))
await node.dial(multiaddr(address))
tell('connected', { peer: node.peerId.toString() })

const lines = createInterface({ input: process.stdin })
lines.on('close', end)
lines.on('line', async (line) => {
  const { recipients } = await pubsub.publish(topic, Buffer.from(line, 'hex'))
  tell('published', { recipients: recipients.length })
})
