import { type AddressInfo, createServer, type Socket } from 'node:net';

/** A server on a free loopback port that answers each request with whatever bytes, or does what it is told. */
export class RawServer implements AsyncDisposable {
  /** Bytes of an answer (latin1), or what to do with a request on its connection. */
  answer: string | ((socket: Socket, request: string) => void) = '';
  /** In order, as they came. */
  readonly requests: string[] = [];
  /** In order, closed ones too. */
  readonly connections: Socket[] = [];
  readonly #server = createServer((socket) => this.#serve(socket));

  static async listen(host = '127.0.0.1'): Promise<RawServer> {
    const server = new RawServer();
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    server.#server.once('error', reject);
    server.#server.listen(0, host, resolve);
    await promise;
    return server;
  }

  get port(): number {
    return (this.#server.address() as AddressInfo).port;
  }

  get url(): string {
    return `http://127.0.0.1:${this.port}/metrics`;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#server.close(() => resolve());
    for (const socket of this.connections) socket.destroy();
    await promise;
  }

  #serve(socket: Socket): void {
    this.connections.push(socket);
    socket.on('error', () => {});
    let text = '';
    socket.setEncoding('latin1').on('data', (piece) => {
      text += piece;
      if (!text.endsWith('\r\n\r\n')) return;
      this.requests.push(text);
      const request = text;
      text = '';
      if (typeof this.answer === 'string') socket.write(this.answer, 'latin1');
      else this.answer(socket, request);
    });
  }
}

/** A whole answer with a Content-Length. */
export function ok(body: string, fields = ''): string {
  return `HTTP/1.1 200 OK\r\n${fields}Content-Length: ${body.length}\r\n\r\n${body}`;
}
