import { join } from 'node:path';
import { BinaryWriter, WireType } from '@bufbuild/protobuf/wire';
import { Server, ServerCredentials, type sendUnaryData } from '@grpc/grpc-js';
import { type TempDir, tempDir } from '../../../support/temp.ts';

export interface FakeContainer {
  readonly namespace: string;
  readonly pod: string;
  readonly container: string;
  /** Device ids by resource. */
  readonly devices: Readonly<Record<string, readonly string[]>>;
}

/** A kubelet's pod-resources service on a unix socket, speaking the real protocol. */
export class FakeKubelet implements AsyncDisposable {
  containers: readonly FakeContainer[] = [];
  /** Answers nothing while true. */
  hangs = false;
  readonly path: string;
  readonly #temp: TempDir;
  readonly #server = new Server();

  private constructor(temp: TempDir) {
    this.#temp = temp;
    this.path = join(temp.path, 'kubelet.sock');
    const list = (_: unknown, answer: sendUnaryData<Buffer>): void => {
      if (!this.hangs) answer(null, encodeAnswer(this.containers));
    };
    this.#server.addService(
      {
        list: {
          path: '/v1.PodResourcesLister/List',
          requestStream: false,
          responseStream: false,
          requestSerialize: (bytes: Buffer) => bytes,
          requestDeserialize: (bytes: Buffer) => bytes,
          responseSerialize: (bytes: Buffer) => bytes,
          responseDeserialize: (bytes: Buffer) => bytes,
        },
      },
      { list },
    );
  }

  static async start(): Promise<FakeKubelet> {
    const kubelet = new FakeKubelet(tempDir('kubelet'));
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    kubelet.#server.bindAsync(`unix:${kubelet.path}`, ServerCredentials.createInsecure(), (error) =>
      error ? reject(error) : resolve(),
    );
    await promise;
    return kubelet;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#server.forceShutdown();
    await this.#temp[Symbol.asyncDispose]();
  }
}

/** Each container is a pod of its own; CPU ids and a topology, which nobody asked for, come along as they do. */
export function encodeAnswer(containers: readonly FakeContainer[]): Buffer {
  const answer = new BinaryWriter();
  for (const { namespace, pod, container, devices } of containers) {
    answer.tag(1, WireType.LengthDelimited).fork();
    answer.tag(1, WireType.LengthDelimited).string(pod);
    answer.tag(2, WireType.LengthDelimited).string(namespace);
    answer.tag(3, WireType.LengthDelimited).fork();
    answer.tag(1, WireType.LengthDelimited).string(container);
    for (const [resource, ids] of Object.entries(devices)) {
      answer.tag(2, WireType.LengthDelimited).fork();
      answer.tag(1, WireType.LengthDelimited).string(resource);
      for (const id of ids) answer.tag(2, WireType.LengthDelimited).string(id);
      answer.tag(3, WireType.LengthDelimited).fork().tag(9, WireType.Varint).int64(1).join();
      answer.join();
    }
    answer.tag(3, WireType.Varint).int64(7);
    answer.join();
    answer.join();
  }
  return Buffer.from(answer.finish());
}
