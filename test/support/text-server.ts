import { createServer } from 'node:http';

/** An exporter that serves whatever text it is given. */
export interface TextServer extends AsyncDisposable {
  readonly url: string;
  /** The body of the next answers. */
  text: string;
  status: number;
  /** Answers given. */
  requests: number;
}

export async function startTextServer(text: string): Promise<TextServer> {
  const server = createServer((_, response) => {
    served.requests++;
    response.writeHead(served.status, { 'content-type': 'text/plain; version=0.0.4' }).end(served.text);
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const address = server.address();
  const port = typeof address === 'object' && address !== null ? address.port : 0;
  const served: TextServer = {
    url: `http://127.0.0.1:${port}/metrics`,
    text,
    status: 200,
    requests: 0,
    async [Symbol.asyncDispose]() {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
  return served;
}
