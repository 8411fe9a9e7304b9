/** Sweeps until the rest is rounding: six are enough for matrices of this size; the bound ends a loop over NaN. */
const MAX_SWEEPS = 30;

/**
 * Eigenvalues and eigenvectors of a symmetric matrix by Jacobi's rotations, largest first. `matrix` is row-major and
 * overwritten. Row i of `vectors` is the i-th vector, of length one.
 */
export function symmetricEigen(
  matrix: Float64Array,
  size: number,
): { values: Float64Array; vectors: Float64Array } {
  const turned = new Float64Array(size * size);
  for (let i = 0; i < size; i++) turned[i * size + i] = 1;
  let scale = 0;
  for (const value of matrix) scale += value * value;
  for (let sweep = 0; sweep < MAX_SWEEPS && offDiagonal(matrix, size) > 1e-22 * scale; sweep++)
    for (let p = 0; p < size; p++) for (let q = p + 1; q < size; q++) rotate(matrix, turned, size, p, q);
  return sorted(matrix, turned, size);
}

function offDiagonal(matrix: Float64Array, size: number): number {
  let sum = 0;
  for (let i = 0; i < size; i++)
    for (let j = i + 1; j < size; j++) sum += 2 * matrix[i * size + j]! * matrix[i * size + j]!;
  return sum;
}

/** Turns the plane of p and q so that their entry becomes 0. */
function rotate(matrix: Float64Array, vectors: Float64Array, size: number, p: number, q: number): void {
  const off = matrix[p * size + q]!;
  if (off === 0) return;
  const theta = (matrix[q * size + q]! - matrix[p * size + p]!) / (2 * off);
  const tangent = (theta >= 0 ? 1 : -1) / (Math.abs(theta) + Math.sqrt(theta * theta + 1));
  const cosine = 1 / Math.sqrt(tangent * tangent + 1);
  const sine = tangent * cosine;
  for (let i = 0; i < size; i++) turn(matrix, i * size + p, i * size + q, cosine, sine);
  for (let i = 0; i < size; i++) turn(matrix, p * size + i, q * size + i, cosine, sine);
  for (let i = 0; i < size; i++) turn(vectors, p * size + i, q * size + i, cosine, sine);
}

function turn(values: Float64Array, a: number, b: number, cosine: number, sine: number): void {
  const first = values[a]!;
  const second = values[b]!;
  values[a] = cosine * first - sine * second;
  values[b] = sine * first + cosine * second;
}

function sorted(matrix: Float64Array, turned: Float64Array, size: number) {
  const order = Array.from({ length: size }, (_, i) => i).sort(
    (a, b) => matrix[b * size + b]! - matrix[a * size + a]!,
  );
  const values = new Float64Array(size);
  const vectors = new Float64Array(size * size);
  for (const [to, from] of order.entries()) {
    values[to] = matrix[from * size + from]!;
    vectors.set(turned.subarray(from * size, (from + 1) * size), to * size);
  }
  return { values, vectors };
}
