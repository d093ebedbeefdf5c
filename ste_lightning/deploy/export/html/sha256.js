// SHA-256 (FIPS 180-4); crypto.subtle is missing on pages that did not come encrypted.

const SHA_ROUNDS = 64;

function firstPrimes(many) {
  const primes = [];
  for (let n = 2; primes.length < many; n++) if (primes.every((p) => n % p)) primes.push(n);
  return primes;
}

// The first 32 bits behind the point.
const fraction = (x) => ((x - Math.floor(x)) * 2 ** 32) | 0;
const SHA_FACTORS = Int32Array.from(firstPrimes(SHA_ROUNDS), (p) => fraction(Math.cbrt(p)));
const SHA_START = firstPrimes(8).map((p) => fraction(Math.sqrt(p)));
const rotated = (x, n) => (x >>> n) | (x << (32 - n));

class Sha256 {
  constructor() {
    this.state = Int32Array.from(SHA_START);
    this.block = new Uint8Array(64);
    this.words = new Int32Array(SHA_ROUNDS);
    this.length = 0;
  }

  update(bytes) {
    for (let i = 0; i < bytes.length; i++) {
      this.block[this.length++ % 64] = bytes[i];
      if (this.length % 64 === 0) this.compress();
    }
    return this;
  }

  compress() {
    const { words: w, state, block } = this;
    for (let t = 0; t < 16; t++) {
      w[t] = (block[4 * t] << 24) | (block[4 * t + 1] << 16) | (block[4 * t + 2] << 8) | block[4 * t + 3];
    }
    for (let t = 16; t < SHA_ROUNDS; t++) {
      const near = rotated(w[t - 2], 17) ^ rotated(w[t - 2], 19) ^ (w[t - 2] >>> 10);
      const far = rotated(w[t - 15], 7) ^ rotated(w[t - 15], 18) ^ (w[t - 15] >>> 3);
      w[t] = near + w[t - 7] + far + w[t - 16];
    }
    let [a, b, c, d, e, f, g, h] = state;
    for (let t = 0; t < SHA_ROUNDS; t++) {
      const chosen = (e & f) ^ (~e & g), major = (a & b) ^ (a & c) ^ (b & c);
      const one = (h + (rotated(e, 6) ^ rotated(e, 11) ^ rotated(e, 25)) + chosen + SHA_FACTORS[t] + w[t]) | 0;
      const two = ((rotated(a, 2) ^ rotated(a, 13) ^ rotated(a, 22)) + major) | 0;
      [h, g, f, e, d, c, b, a] = [g, f, e, (d + one) | 0, c, b, a, (one + two) | 0];
    }
    [a, b, c, d, e, f, g, h].forEach((value, i) => { state[i] += value; });
  }

  hex() {
    const bits = this.length * 8;
    this.update([0x80]);
    while (this.length % 64 !== 56) this.update([0]);
    const end = new DataView(new ArrayBuffer(8));
    end.setUint32(0, Math.floor(bits / 2 ** 32));
    end.setUint32(4, bits >>> 0);
    this.update(new Uint8Array(end.buffer));
    return Array.from(this.state, (word) => (word >>> 0).toString(16).padStart(8, "0")).join("");
  }
}
