import { createServer, type IncomingHttpHeaders } from 'node:http';
import { uncompress } from 'snappy';

export interface ReceivedSample {
  readonly labels: Record<string, string>;
  /** The labels as they were sent: their order, and a name that comes twice. */
  readonly pairs: readonly (readonly [name: string, value: string])[];
  /** The value's eight bytes as hex, most significant first: bit-exact, NaN payloads too. */
  readonly bits: string;
  readonly value: number;
  readonly timestampMs: number;
}

export interface ReceivedRequest {
  readonly method: string;
  readonly path: string;
  readonly headers: IncomingHttpHeaders;
  /** As it was sent, compressed. */
  readonly body: Buffer;
  /** The protobuf message. */
  readonly message: Buffer;
  readonly samples: readonly ReceivedSample[];
}

export interface Answer {
  readonly status: number;
  readonly body?: string;
  readonly headers?: Record<string, string>;
}

/** A remote write 1.0 receiver that keeps everything, bit for bit, and answers as it is told. */
export interface RemoteWriteReceiver extends AsyncDisposable {
  readonly url: string;
  readonly requests: readonly ReceivedRequest[];
  /** Decides the answer to a write; 204 by default. A request that was not answered 2xx is not in `stored`. */
  answer: (request: ReceivedRequest) => Answer | Promise<Answer>;
  readonly stored: readonly ReceivedSample[];
  /** Writes that are no snappy block: answered 400, and what and why. */
  readonly malformed: readonly string[];
  /** What /metrics says; 404 where undefined. */
  metrics: string | undefined;
}

export async function startReceiver(): Promise<RemoteWriteReceiver> {
  const requests: ReceivedRequest[] = [];
  const stored: ReceivedSample[] = [];
  const malformed: string[] = [];
  const server = createServer(async (request, response) => {
    const parts: Buffer[] = [];
    try {
      for await (const part of request) parts.push(part as Buffer);
    } catch {
      // Its sender gave up, as it may when it closes: nothing was received, and nobody waits for an answer.
      return;
    }
    if (request.url === '/metrics') {
      response.writeHead(receiver.metrics === undefined ? 404 : 200).end(receiver.metrics ?? '');
      return;
    }
    // It can be written to, and not be read: queries come as POST too.
    if (request.method !== 'POST' || !request.url?.endsWith('/write')) {
      response.writeHead(404).end();
      return;
    }
    const sent = Buffer.concat(parts);
    let message: Buffer;
    try {
      message = (await uncompress(sent)) as Buffer;
    } catch (error) {
      malformed.push(`${request.url}: ${String(error)}: ${sent.toString('base64')}`);
      response.writeHead(400).end(String(error));
      return;
    }
    const received = {
      method: request.method,
      path: request.url ?? '',
      headers: request.headers,
      body: sent,
      message,
      samples: decodeWriteRequest(message),
    };
    requests.push(received);
    const { status, body = '', headers = {} } = await receiver.answer(received);
    if (status >= 200 && status < 300) stored.push(...received.samples);
    response.writeHead(status, headers).end(body);
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const address = server.address();
  const port = typeof address === 'object' && address !== null ? address.port : 0;
  const receiver: RemoteWriteReceiver = {
    url: `http://127.0.0.1:${port}`,
    requests,
    stored,
    malformed,
    answer: () => ({ status: 204 }),
    metrics: undefined,
    async [Symbol.asyncDispose]() {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
  return receiver;
}

/** Reads a prometheus.WriteRequest by the field numbers of the specification. */
export function decodeWriteRequest(bytes: Buffer): ReceivedSample[] {
  const samples: ReceivedSample[] = [];
  for (const series of fields(bytes).filter(({ number }) => number === 1)) {
    const parts = fields(series.bytes!);
    const pairs = parts
      .filter(({ number }) => number === 1)
      .map((label) => {
        const [name, value] = fields(label.bytes!);
        return [name!.bytes!.toString(), value?.bytes?.toString() ?? ''] as const;
      });
    const labels = Object.fromEntries(pairs);
    for (const sample of parts.filter(({ number }) => number === 2)) {
      const [value, timestamp] = fields(sample.bytes!);
      samples.push({
        labels,
        pairs,
        bits: Buffer.from(value!.bytes!).reverse().toString('hex'),
        value: value!.bytes!.readDoubleLE(0),
        timestampMs: timestamp!.varint!,
      });
    }
  }
  return samples;
}

interface Field {
  readonly number: number;
  readonly bytes?: Buffer;
  readonly varint?: number;
}

/**
 * Every field that a WriteRequest has, as paths of field numbers: 1.2.1 is timeseries.samples.value. Down to the
 * fields of labels and samples, which are the scalars of the specification.
 */
export function fieldPaths(message: Buffer): Set<string> {
  const paths = new Set<string>();
  const visit = (bytes: Buffer, prefix: string, depth: number): void => {
    for (const { number, bytes: inner } of fields(bytes)) {
      const path = `${prefix}${number}`;
      paths.add(path);
      if (inner && depth < 3) visit(inner, `${path}.`, depth + 1);
    }
  };
  visit(message, '', 1);
  return paths;
}

function fields(bytes: Buffer): Field[] {
  const found: Field[] = [];
  let at = 0;
  const varint = (): number => {
    let value = 0;
    for (let scale = 1; ; scale *= 128) {
      const byte = bytes[at++]!;
      value += (byte & 0x7f) * scale;
      if (byte < 0x80) return value;
    }
  };
  while (at < bytes.length) {
    const tag = varint();
    const number = Math.floor(tag / 8);
    const wire = tag % 8;
    if (wire === 0) found.push({ number, varint: varint() });
    else if (wire === 1) {
      found.push({ number, bytes: bytes.subarray(at, at + 8) });
      at += 8;
    } else if (wire === 2) {
      const length = varint();
      found.push({ number, bytes: bytes.subarray(at, at + length) });
      at += length;
    } else throw new Error(`wire type ${wire} at byte ${at}`);
  }
  return found;
}
