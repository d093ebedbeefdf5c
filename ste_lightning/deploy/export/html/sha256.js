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
    for (let at = 0; at < bytes.length;) {
      const used = this.length % 64, taken = Math.min(64 - used, bytes.length - at);
      if (taken === 64) this.compress(bytes, at); // a whole block, where it lies
      else for (let i = 0; i < taken; i++) this.block[used + i] = bytes[at + i];
      if (taken < 64 && used + taken === 64) this.compress(this.block, 0);
      this.length += taken;
      at += taken;
    }
    return this;
  }

  compress(block, at) {
    const { words: w, state } = this;
    for (let t = 0, i = at; t < 16; t++, i += 4) {
      w[t] = (block[i] << 24) | (block[i + 1] << 16) | (block[i + 2] << 8) | block[i + 3];
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
      h = g;
      g = f;
      f = e;
      e = (d + one) | 0;
      d = c;
      c = b;
      b = a;
      a = (one + two) | 0;
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
