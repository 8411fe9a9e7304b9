import { execFile } from 'node:child_process';
import { existsSync, readdirSync } from 'node:fs';
import { delimiter, join } from 'node:path';
import { promisify } from 'node:util';
import { describeError } from '#shared/errors/fleet-error.ts';
import { cachedPackage, fetchDebianPackages } from '../../deploy/local/debian-packages.ts';
import { ROOT, skipLoudly } from '../support/data.ts';
import { tempDir } from '../support/temp.ts';

/**
 * Debian 12's protoc, its Python plugin and its Python gRPC runtime, with what they load beyond a plain Debian with
 * python3. libprotobuf-dev has google/protobuf/timestamp.proto.
 */
const PACKAGES = [
  'python3-grpcio',
  'python3-protobuf',
  'protobuf-compiler',
  'protobuf-compiler-grpc',
  'libprotobuf-dev',
  'libabsl20220623',
  'libc-ares2',
  'libgrpc29',
  'libprotobuf32',
  'libprotoc32',
  'libre2-9',
];

/** protoc and an interpreter's start take a fraction of a second; this is for a machine that does much else. */
const COMMAND_MS = 30_000;

const run = promisify(execFile);

/** Programs that turn the contract into a Python client and run it. */
export interface PythonGrpc {
  readonly python: string;
  /** What a command of these needs in its environment. */
  readonly env: Readonly<Record<string, string>>;
  readonly protoc: string;
  readonly plugin: string;
  /** A folder with google/protobuf/*.proto. */
  readonly include: string;
}

/** Where Debian's packages put them. */
const INSTALLED: PythonGrpc = {
  python: '/usr/bin/python3',
  env: {},
  protoc: '/usr/bin/protoc',
  plugin: '/usr/bin/grpc_python_plugin',
  include: '/usr/include',
};

export type FoundPythonGrpc =
  | { readonly tools: PythonGrpc }
  | { readonly tools: undefined; readonly reason: string };

/** What the system has; else Debian's packages from the user's cache, downloaded first where they are not there. */
export async function findPythonGrpc(log: (line: string) => void): Promise<FoundPythonGrpc> {
  if ((await faultOf(INSTALLED)) === undefined) return { tools: INSTALLED };
  try {
    await fetchDebianPackages(PACKAGES, log);
  } catch (error) {
    return { tools: undefined, reason: describeError(error) };
  }
  const tools = unpackedTools();
  const reason = await faultOf(tools);
  return reason === undefined ? { tools } : { tools: undefined, reason };
}

/** For `test.skipIf(!hasPythonGrpc(found))`; under CI it answers yes, so that missing packages fail the test. */
export function hasPythonGrpc(found: FoundPythonGrpc): boolean {
  if (found.tools !== undefined || process.env.CI) return true;
  skipLoudly(`tests that need Python's gRPC: ${found.reason}`);
  return false;
}

/** Python stubs of every file under proto/, into `folder`. */
export async function generatePython(tools: PythonGrpc, folder: string): Promise<void> {
  const proto = join(ROOT, 'proto');
  const files = readdirSync(proto, { recursive: true, encoding: 'utf8' });
  await protoc(tools, [
    `-I${proto}`,
    `--python_out=${folder}`,
    `--grpc_python_out=${folder}`,
    ...files.filter((name) => name.endsWith('.proto')),
  ]);
}

/** Why these do not work here; undefined where they do. Tried on files that are not ours: those are the test's. */
async function faultOf(tools: PythonGrpc): Promise<string | undefined> {
  await using scratch = tempDir('python-grpc');
  try {
    await protoc(tools, [`--grpc_python_out=${scratch.path}`, 'google/protobuf/timestamp.proto']);
    await runTool(tools, tools.python, ['-B', '-c', 'import grpc, google.protobuf.json_format']);
    return undefined;
  } catch (error) {
    return describeError(error);
  }
}

function protoc(tools: PythonGrpc, args: readonly string[]): Promise<unknown> {
  const plugin = `--plugin=protoc-gen-grpc_python=${tools.plugin}`;
  return runTool(tools, tools.protoc, [plugin, `-I${tools.include}`, ...args]);
}

function runTool(tools: PythonGrpc, command: string, args: readonly string[]): Promise<unknown> {
  return run(command, args, { env: { ...process.env, ...tools.env }, timeout: COMMAND_MS });
}

/** The same, in the trees that the packages were unpacked to. */
function unpackedTools(): PythonGrpc {
  const trees = PACKAGES.map((name) => cachedPackage(name)).filter((tree) => tree !== undefined);
  const within = (name: string, path: string): string => join(cachedPackage(name) ?? '/', path);
  return {
    python: INSTALLED.python,
    env: {
      PYTHONPATH: existing(trees.map((tree) => join(tree, 'usr/lib/python3/dist-packages'))),
      LD_LIBRARY_PATH: existing(trees.flatMap(libraryFolders)),
    },
    protoc: within('protobuf-compiler', INSTALLED.protoc),
    plugin: within('protobuf-compiler-grpc', INSTALLED.plugin),
    include: within('libprotobuf-dev', INSTALLED.include),
  };
}

/** usr/lib/x86_64-linux-gnu, usr/lib/aarch64-linux-gnu, usr/lib/arm-linux-gnueabihf ... */
function libraryFolders(tree: string): string[] {
  const lib = join(tree, 'usr/lib');
  if (!existsSync(lib)) return [];
  return readdirSync(lib)
    .filter((name) => /-linux-gnu[a-z]*$/.test(name))
    .map((name) => join(lib, name));
}

function existing(folders: readonly string[]): string {
  return folders.filter((folder) => existsSync(folder)).join(delimiter);
}
