// The node, over HTTP and its stream. Errors carry the node's own words.

export class Refused extends Error {
  constructor(status, code, message) {
    super(message);
    this.status = status;
    this.code = code;
  }
}

export async function call(method, path, body, headers = {}) {
  let answer;
  try {
    answer = await fetch(path, {
      method,
      headers: body === undefined ? headers : { "content-type": "application/json", ...headers },
      body: body === undefined ? undefined : JSON.stringify(body),
    });
  } catch {
    throw new Refused(0, "unreachable", "the node does not answer");
  }
  if (answer.status === 204) return null;
  const said = await answer.json().catch(() => ({ code: "unreadable", message: answer.statusText }));
  if (!answer.ok) throw new Refused(answer.status, said.code, said.message);
  return said;
}

// Hears channels for ever: after a break it comes back, and begins with a snapshot.
export class Stream {
  constructor(channels, hear, tell) {
    this.channels = channels;
    this.hear = hear;
    this.tell = tell;
    this.wait = 250;
    this.open();
  }

  open() {
    const origin = location.origin.replace(/^http/, "ws");
    this.socket = new WebSocket(`${origin}/v1/stream?channels=${this.channels.join(",")}`);
    this.socket.onopen = () => { this.wait = 250; this.tell(true); };
    this.socket.onmessage = (event) => this.hear(JSON.parse(event.data));
    this.socket.onclose = () => {
      if (this.isClosed) return;
      this.tell(false);
      setTimeout(() => this.open(), this.wait);
      this.wait = Math.min(8000, this.wait * 2);
    };
  }

  close() {
    this.isClosed = true;
    this.socket.close();
  }
}
